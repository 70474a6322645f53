#!/usr/bin/env bash
# Paints a photo in the style of every painting in a folder, with a preview every 50 steps.
#
#     examples/style_folder.sh PHOTO PAINTINGS RESULTS [OPTION ...]
#
# A painting whose result exists is skipped: stop with Ctrl-C, and run it again to continue. The
# options are passed to neural_style.py. PYTHON=... names another Python.
set -uo pipefail

if [ $# -lt 3 ]; then
    echo "usage: $0 PHOTO PAINTINGS RESULTS [OPTION ...]" >&2
    exit 2
fi
photo=$1 paintings=$2 results=$3
shift 3
program=$(dirname "$(dirname "$(realpath "$0")")")
python=${PYTHON:-$program/.venv/bin/python}
mkdir -p "$results" || exit 1
failed=0

for painting in "$paintings"/*.{jpg,jpeg,png,webp,tif,tiff,bmp,gif}; do
    [ -e "$painting" ] || continue
    name=$(basename "${painting%.*}")
    result=$results/$name.jpg
    if [ -e "$result" ]; then
        echo "$result exists already" >&2
        continue
    fi
    # painted under another name, so that what a Ctrl-C leaves is not taken for a result
    unfinished=$results/$name-unfinished.jpg
    "$python" "$program/neural_style.py" --content "$photo" --styles "$painting" \
        --output "$unfinished" --overwrite \
        --checkpoint-output "$results/$name-preview-{:04}.jpg" --checkpoint-iterations 50 "$@"
    status=$?
    case $status in
        0) mv "$unfinished" "$result" ;;
        130) exit 130 ;;
        *) failed=1 ;; # the line above says why; the other paintings go on
    esac
done
exit $failed
