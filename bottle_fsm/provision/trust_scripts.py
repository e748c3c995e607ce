"""The shell scripts of `ca`: what the agent's stores hold, and how they are given a certificate.

They know the layouts of Debian, Alpine (as Debian) and RHEL. What runs as root writes root-owned directories only, so
nothing that the agent may have planted is followed.
"""

from __future__ import annotations

from typing import Final

from bottle_fsm.places import CA_BUNDLE_PATH, CA_CERT_PATH

DONE: Final = "/usr/local/share/ca-certificates/.claude-bottle-mitm.done"
"""Written last: the store was rebuilt to its end for the certificate and variables that this mark was made from."""
FILE_MARK: Final = "@@bottle-file"
BEGIN: Final = "# bottle-fsm begin"
END: Final = "# bottle-fsm end"

_FAMILY: Final = """
if command -v update-ca-certificates >/dev/null 2>&1; then family=debian
elif command -v update-ca-trust >/dev/null 2>&1; then family=rhel
else family=none; fi
"""

LOOK: Final = f"""
{_FAMILY}
echo "family=$family"
echo "stamp=$(cat {DONE} 2>/dev/null)"
capath=untested
if [ "$family" = debian ] && command -v openssl >/dev/null 2>&1; then
  capath=missing
  # -no-CAfile keeps the bundle out of this answer; OpenSSL 3 has a third place to look in, 1.1 refuses its option
  third=; ! openssl verify -help 2>&1 | grep -q no-CAstore || third=-no-CAstore
  openssl verify -no-CAfile $third -CApath /etc/ssl/certs {CA_CERT_PATH} >/dev/null 2>&1 && capath=ok
fi
echo "capath=$capath"
for name in $1; do
  eval "value=\\${{$name-}}"
  [ -z "$value" ] || printf 'env.%s=%s\\n' "$name" "$value"
done
for file in {CA_CERT_PATH} {CA_BUNDLE_PATH}; do
  echo '{FILE_MARK}'
  cat "$file" 2>/dev/null || true
done
"""
"""Run as root. `$1`: names of variables. Prints `key=value` lines, then the certificate and the bundle, each after a
line that is `FILE_MARK`."""

ACT: Final = f"""
set -eu
pem=$1 environment=$2 stamp=$3
umask 022
directory=/usr/local/share/ca-certificates
mkdir -p "$directory" /etc/profile.d
command -v flock >/dev/null 2>&1 || {{ echo 'flock is missing (package util-linux)' >&2; exit 69; }}
# what is started below inherits the lock: should this shell be killed, the next one waits for what it left running
exec 9<"$directory"
flock 9
rm -f {DONE}

place() {{ # file, content: whole or not at all
  printf '%s' "$2" > "$1.bottle-new"
  chmod 644 "$1.bottle-new"
  mv -f "$1.bottle-new" "$1"
}}

{_FAMILY}
place {CA_CERT_PATH} "$pem"
case $family in
debian)
  # an update that was killed leaves this behind, and the next one would append to it: roots twice, an old CA again
  rm -f {CA_BUNDLE_PATH}.new
  # what it is about to clear, with several processes for each link
  find /etc/ssl/certs -maxdepth 1 -type l \\( -lname '/usr/share/ca-certificates/*' -o -lname "$directory/*" \\) \\
    -delete 2>/dev/null || true
  find /etc/ssl/certs -maxdepth 1 -xtype l -delete 2>/dev/null || true
  update-ca-certificates --fresh >/dev/null ;;
rhel)
  place /etc/pki/ca-trust/source/anchors/claude-bottle-mitm.crt "$pem"
  update-ca-trust extract
  mkdir -p /etc/ssl/certs
  [ -e {CA_BUNDLE_PATH} ] || ln -s /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem {CA_BUNDLE_PATH} ;;
*) echo 'neither update-ca-certificates nor update-ca-trust is there' >&2; exit 69 ;;
esac

others=$(sed '/^{BEGIN}$/,/^{END}$/d' /etc/environment 2>/dev/null || true)
place /etc/environment "${{others:+$others
}}{BEGIN}
${{environment}}{END}
"
place /etc/profile.d/bottle.sh "$(printf '%s' "$environment" | sed "s/=\\(.*\\)/='\\1'/; s/^/export /")
"

if command -v git >/dev/null 2>&1; then
  git config --system http.sslCAInfo {CA_BUNDLE_PATH}
  [ -z "${{HTTPS_PROXY-}}" ] || git config --system http.proxy "$HTTPS_PROXY"
fi
if command -v keytool >/dev/null 2>&1; then
  java_store() {{
    keytool -J-XX:+UseSerialGC -J-XX:TieredStopAtLevel=1 "$@" \\
      -cacerts -storepass changeit -alias claude-bottle-mitm >/dev/null
  }}
  # each start of Java counts: the import fails where there is one of this name, of an earlier CA
  java_store -importcert -noprompt -file {CA_CERT_PATH} 2>/dev/null || {{
    java_store -delete || true
    java_store -importcert -noprompt -file {CA_CERT_PATH}
  }}
fi
place {DONE} "$stamp"
"""
"""Run as root. `$1`: the certificate. `$2`: `NAME=value` lines. `$3`: the mark to leave when all is done."""

HOME_ACT: Final = f"""
set -eu
command -v npm >/dev/null 2>&1 || exit 0
umask 077
file=~/.npmrc
[ ! -L "$file" ] || rm -f "$file"
others=$(sed '/^{BEGIN}$/,/^{END}$/d' "$file" 2>/dev/null || true)
{{
  [ -z "$others" ] || printf '%s\\n' "$others"
  echo '{BEGIN}'
  echo 'cafile={CA_BUNDLE_PATH}'
  [ -z "${{HTTPS_PROXY-}}" ] ||
    printf 'proxy=%s\\nhttps-proxy=%s\\nnoproxy=%s\\n' "$HTTPS_PROXY" "$HTTPS_PROXY" "$NO_PROXY"
  echo '{END}'
}} > "$file.bottle-new"
mv -f "$file.bottle-new" "$file"
"""
"""Run as the agent: npm reads its user's file even when the environment was wiped."""
