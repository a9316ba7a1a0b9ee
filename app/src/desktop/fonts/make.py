#!/usr/bin/env python3
"""Makes the desktop's fonts from Inter's: Latin alone, and every digit as wide as the others.

    python3 make.py FOLDER-WITH-INTER      (Debian: apt install fonts-inter; pip install fonttools)

egui has no switch for a font's features, so that tabular digits (`tnum`) are put in the place of the proportional ones.
"""

import sys
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

RANGES = [(0x20, 0x7E), (0xA0, 0x24F), (0x2010, 0x2027), (0x2030, 0x2044), (0x20AC, 0x20AC), (0x2190, 0x2193), (0x2212, 0x2212)]


def tabular(font):
    gsub = font["GSUB"].table
    lookups = {i for f in gsub.FeatureList.FeatureRecord if f.FeatureTag == "tnum" for i in f.Feature.LookupListIndex}
    mapping = {}
    for index in lookups:
        for table in gsub.LookupList.Lookup[index].SubTable:
            mapping.update(getattr(getattr(table, "ExtSubTable", table), "mapping", {}))
    for table in font["cmap"].tables:
        for code in [*range(0x30, 0x3A), 0x2C, 0x2E, 0x3A, 0x25, 0x2212, 0x20]:
            name = table.cmap.get(code)
            # Only digits: punctuation keeps its own width.
            if name in mapping and 0x30 <= code <= 0x39:
                table.cmap[code] = mapping[name]


def main():
    source, here = Path(sys.argv[1]), Path(__file__).parent
    for name in ["Inter-Regular", "Inter-SemiBold"]:
        font = TTFont(source / f"{name}.otf")
        tabular(font)
        options = subset.Options(layout_features=["kern"], hinting=False, desubroutinize=True, name_IDs=[0, 1, 2, 3, 4, 6, 13, 14])
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=[code for first, last in RANGES for code in range(first, last + 1)])
        subsetter.subset(font)
        font.save(here / f"{name}.otf")


main()
