#!/usr/bin/env bash
# Draws the icon in all sizes from earmark.svg. Needs rsvg-convert (Debian: librsvg2-bin) or ImageMagick.
set -euo pipefail
cd "$(dirname "$0")"
for size in 16 32 48 64 128 256 512; do
    if command -v rsvg-convert >/dev/null 2>&1; then
        rsvg-convert --width "$size" --height "$size" earmark.svg --output "earmark-$size.png"
    else
        # Enough dots per inch for the size: a drawing that is enlarged afterwards would be blurred.
        convert -background none -density $((96 * size / 256 + 96)) earmark.svg -resize "${size}x${size}" -strip \
            "PNG32:earmark-$size.png"
    fi
done
