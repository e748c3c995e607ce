"""The first sub-step of a launch: every image is on the engine, and its id is a recorded fact.

An id that is recorded and still there is kept, whatever its tag means by now: a launch does not change under way. The
one exception: before trust was ever proved, a container that does not run takes what its tag means now, because an
image that would not start may have been mended in between.
Not its duty: building and pulling (`images`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from bottle_fsm.backend.docker.build import ImageName
from bottle_fsm.backend.docker.images import ImageRef, ensure_image, ensure_present
from bottle_fsm.backend.docker.plan import ContainerPlan, image_fact
from bottle_fsm.backend.docker.pull import image_id
from bottle_fsm.backend.docker.work import Work
from bottle_fsm.backend.trust import FACT_TRUSTED


def ensure_images(work: Work, *, data_dir: Path, environ: Mapping[str, str]) -> None:
    """Build or pull what is missing, and record ids and digests."""
    plans = (work.plan.proxy_plan, work.plan.mitmproxy_plan, work.plan.agent_plan)
    wanted = [plan for plan in plans if not _recorded(work, plan)]
    if not wanted:
        return
    with work.steps.act("images", cause="not recorded, not on the engine, or made again") as step:
        found: dict[str, ImageRef] = {}
        for plan in wanted:
            if plan.image not in found:
                found[plan.image] = _ensure(work, plan, data_dir=data_dir, environ=environ)
            step.fact(image_fact(plan.role), found[plan.image].id)
            step.fact(_reference_fact(plan.role), plan.image)
            if found[plan.image].digest:
                step.fact(_digest_fact(plan.role), found[plan.image].digest)
        step.evidence("images", {ref: {"id": image.id, "made_now": image.built} for ref, image in found.items()})


def _ensure(work: Work, plan: ContainerPlan, *, data_dir: Path, environ: Mapping[str, str]) -> ImageRef:
    if plan.ours:
        name = cast("ImageName", plan.ours)
        return ensure_image(work.engine, name, say=work.steps.say, data_dir=data_dir, environ=environ)
    same = work.steps.facts.get(_reference_fact(plan.role)) == plan.image
    digest = work.steps.facts.get(_digest_fact(plan.role), "") if same else ""
    return ensure_present(work.engine, plan.image, say=work.steps.say, digest=digest)


def _recorded(work: Work, plan: ContainerPlan) -> bool:
    facts = work.steps.facts
    known = facts.get(image_fact(plan.role))
    if known is None or facts.get(_reference_fact(plan.role)) != plan.image:
        return False
    return image_id(work.engine, known) is not None and not _remade(work, plan, known)


def _remade(work: Work, plan: ContainerPlan, known: str) -> bool:
    """Tell whether the tag means another image now, for a container that has not done its duty yet."""
    facts = work.steps.facts
    if FACT_TRUSTED in facts or _digest_fact(plan.role) in facts:
        return False  # proved; or a registry's digest was recorded, which counts whatever the tag is
    if any(found.state == "running" for found in work.look("container").of_role(plan.role)):
        return False
    return image_id(work.engine, plan.image) not in {None, known}


def _reference_fact(role: str) -> str:
    return f"{image_fact(role)}.reference"


def _digest_fact(role: str) -> str:
    return f"{image_fact(role)}.digest"
