#!/usr/bin/env bash
# The peer of `make bench-peer`: fetches Nessie's server with Maven into plait's cache, once, and prints where it is.
set -euo pipefail
cache=${PLAIT_CACHE:-$HOME/.cache/plait}
version=$(sed -n '/^\[nessie\]/,/^\[/s/^version = "\([^"]*\)".*/\1/p' engines.toml)
jar="$cache/jars/nessie-quarkus-$version-runner.jar"
if [ ! -f "$jar" ]; then
  command -v mvn > /dev/null || { echo "Maven is missing: apt-get install maven, or put Nessie's runner at $jar" >&2; exit 1; }
  echo "Fetching Nessie $version into $cache/jars (once, 245 MB)" >&2
  mkdir -p "$cache/jars"
  mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -DoutputDirectory="$cache/jars" \
    -Dartifact="org.projectnessie.nessie:nessie-quarkus:$version:jar:runner" >&2
fi
echo "$jar"
