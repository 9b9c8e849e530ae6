#!/bin/sh
# Renders a report in headless Chromium, the way a reader would see it, and fails when something is wrong with it.
#
#   tools/render_report.sh REPORT.html OUT.png [light|dark] [WIDTH [HEIGHT]]
#
# The picture is as high as the page unless HEIGHT says otherwise. Fails (exit 1) when the page is blank, when its script
# threw or did not run to its end, or when the picture cannot be made. Exit 2: wrong usage. Exit 3: no Chromium. CHROMIUM names another binary.
set -eu

if [ $# -lt 2 ] || [ $# -gt 5 ]; then
  echo "usage: $0 REPORT.html OUT.png [light|dark] [WIDTH [HEIGHT]]" >&2
  exit 2
fi
html=$(realpath -- "$1")
png=$(realpath -m -- "$2")
width=${4:-1200}
case "${3:-light}" in
  light) scheme=1 ;;
  dark) scheme=0 ;;
  *) echo "$0: found scheme '$3', expected light or dark" >&2; exit 2 ;;
esac
[ -f "$html" ] || { echo "$0: $1: no such file" >&2; exit 1; }

browser=${CHROMIUM:-}
for name in chromium chromium-browser google-chrome; do
  [ -n "$browser" ] || browser=$(command -v "$name" || true)
done
[ -n "$browser" ] || { echo "$0: no Chromium found; install the package chromium or set CHROMIUM" >&2; exit 3; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
chrome() {
  timeout 120 "$browser" --headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars --disable-background-networking \
    --disable-component-update --disable-sync --disable-dev-shm-usage --user-data-dir="$work/profile" \
    --blink-settings=preferredColorScheme=$scheme --window-size="$width,$height" "$@" "file://$html" 2>"$work/log"
}
broken() {
  echo "$0: $1: $2" >&2
  exit 1
}

height=1000
chrome --dump-dom >"$work/dom" || broken "$html" "the browser failed: $(tail -n 1 "$work/log")"
error=$(sed -n 's/.*<html[^>]* data-script-error="\([^"]*\)".*/\1/p' "$work/dom" | head -n 1)
[ -z "$error" ] || broken "$html" "the page's script failed: $error"
grep -q '<html[^>]* data-script="done"' "$work/dom" || broken "$html" "the page's script did not run to its end"
grep -q '<h2>[^<]' "$work/dom" || broken "$html" "the page is blank: no heading"
page_height=$(sed -n 's/.*<html[^>]* data-height="\([0-9]*\)".*/\1/p' "$work/dom" | head -n 1)
[ "${page_height:-0}" -ge 300 ] || broken "$html" "the page is blank: ${page_height:-0} pixels high, expected at least 300"
height=${5:-$((page_height < 16000 ? page_height : 16000))}

rm -f "$png"
chrome --screenshot="$png" || broken "$html" "no picture: $(tail -n 1 "$work/log")"
[ -s "$png" ] || broken "$html" "the browser wrote no picture to $png"
echo "$png"
