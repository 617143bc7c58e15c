#!/usr/bin/env bash
# Sees to it that the programs which the tests run are here: tshark and tcpdump read our captures.
# Installs them where apt is there and we are root; otherwise says what to type.
set -euo pipefail

missing=()
for tool in tshark tcpdump; do
    command -v "$tool" >/dev/null || missing+=("$tool")
done
((${#missing[@]})) || exit 0

if command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
    echo "tests: installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    options=(-q -o DPkg::Lock::Timeout=300)
    apt-get "${options[@]}" update </dev/null >/dev/null
    apt-get "${options[@]}" install --yes --no-install-recommends "${missing[@]}" </dev/null >/dev/null
    exit 0
fi

case $(uname -s) in
Darwin) how='brew install --formula wireshark' ;;
*) if command -v apt-get >/dev/null; then how="sudo apt-get install ${missing[*]}"
    elif command -v dnf >/dev/null; then how='sudo dnf install wireshark-cli tcpdump'
    elif command -v pacman >/dev/null; then how='sudo pacman -S wireshark-cli tcpdump'
    elif command -v apk >/dev/null; then how='sudo apk add tshark tcpdump'
    else how="install ${missing[*]}"; fi ;;
esac
echo "tests: ${missing[*]} not found, and the tests need it. Please type: $how" >&2
exit 1
