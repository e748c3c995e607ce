"""What Java runs to ask the gate, compiled: a Java without a compiler is asked, too, and in a third of the time.

`JAVA_GATE` is the class file of `SOURCE`, made by `javac -g:none --release 8 Gate.java` of JDK 17, as base64; any Java
from 8 on runs it. A test compiles the source anew and compares.
"""

from __future__ import annotations

from typing import Final

SOURCE: Final = """\
class Gate {
  public static void main(String[] a) throws Exception {
    java.io.InputStream in = new java.net.URL(a[0]).openStream();
    System.out.println(new java.util.Scanner(in, "UTF-8").useDelimiter("\\\\A").next());
  }
}
"""

JAVA_GATE: Final = (
    "yv66vgAAADQANAoAAgADBwAEDAAFAAYBABBqYXZhL2xhbmcvT2JqZWN0AQAGPGluaXQ+AQADKClWBwAIAQAMamF2YS9uZXQvVVJMCgAHAAoM"
    "AAUACwEAFShMamF2YS9sYW5nL1N0cmluZzspVgoABwANDAAOAA8BAApvcGVuU3RyZWFtAQAXKClMamF2YS9pby9JbnB1dFN0cmVhbTsJABEA"
    "EgcAEwwAFAAVAQAQamF2YS9sYW5nL1N5c3RlbQEAA291dAEAFUxqYXZhL2lvL1ByaW50U3RyZWFtOwcAFwEAEWphdmEvdXRpbC9TY2FubmVy"
    "CAAZAQAFVVRGLTgKABYAGwwABQAcAQAqKExqYXZhL2lvL0lucHV0U3RyZWFtO0xqYXZhL2xhbmcvU3RyaW5nOylWCAAeAQACXEEKABYAIAwA"
    "IQAiAQAMdXNlRGVsaW1pdGVyAQAnKExqYXZhL2xhbmcvU3RyaW5nOylMamF2YS91dGlsL1NjYW5uZXI7CgAWACQMACUAJgEABG5leHQBABQo"
    "KUxqYXZhL2xhbmcvU3RyaW5nOwoAKAApBwAqDAArAAsBABNqYXZhL2lvL1ByaW50U3RyZWFtAQAHcHJpbnRsbgcALQEABEdhdGUBAARDb2Rl"
    "AQAEbWFpbgEAFihbTGphdmEvbGFuZy9TdHJpbmc7KVYBAApFeGNlcHRpb25zBwAzAQATamF2YS9sYW5nL0V4Y2VwdGlvbgAgACwAAgAAAAAA"
    "AgAAAAUABgABAC4AAAARAAEAAQAAAAUqtwABsQAAAAAACQAvADAAAgAuAAAAMwAFAAIAAAAnuwAHWSoDMrcACbYADEyyABC7ABZZKxIYtwAa"
    "Eh22AB+2ACO2ACexAAAAAAAxAAAABAABADIAAA=="
)
