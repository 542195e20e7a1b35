#!/bin/sh
# pith info.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/bf16.pith" bf16
model "$T/q4.pith" rtn:bits=4,group=32

check_exit 0 'text' "$PITH" info "$T/bf16.pith"
check 'blocks' grep -q '4, each 4 heads (2 key-value) of 32, feed-forward 384' "$T/out"
check_exit 0 'every weight' "$PITH" info -v "$T/q4.pith"
check 'weight with its shape and terms' grep -qE 'q_proj.* 128x128 .*affine 4 bits group 32' "$T/out"
check_exit 0 'json' "$PITH" info --json -v "$T/bf16.pith"
# The checkpoint's own header says how many parameters there are.
parameters=$("$PYTHON" -c '
import json, struct, math
f = open("models/tiny1m/model.safetensors", "rb")
h = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
print(sum(math.prod(v["shape"]) for k, v in h.items() if k != "__metadata__"))')
check 'parameters of the checkpoint' json "d['parameters'] == $parameters"
check 'a dense model stores 16 bits a weight' json "d['bits_per_weight'] == 16"
check 'the list sums up' json "d['weight_bytes'] == sum(w['bytes'] for w in d['weight_list'])"
check 'kinds sum up' json "sum(k['bytes'] for k in d['kinds'] if k['kind'] != 'tables') == d['weight_bytes']"
check 'architecture' json "d['architecture'] and len(d['blocks']) == 4"
check_exit 0 'json of a quantized model' "$PITH" info --json "$T/q4.pith"
check 'bits per weight of 4-bit codes with f16 scales' json "4.5 <= d['bits_per_weight'] < 5.6"
# The page: every matrix is drawn in both grids, text is escaped, nothing is fetched, tags are balanced.
cp "$T/q4.pith" "$T/a<b>&c.pith"
check_exit 0 'page' "$PITH" info --html "$T/page.html" "$T/a<b>&c.pith"
cat >"$T/page.py" <<'EOF'
import html.parser, sys
class Page(html.parser.HTMLParser):
    paired = {"table", "svg", "g", "div", "h1", "style"}
    open, cells, seen = [], 0, set()
    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.cells += tag == "rect"
        assert not {"src", "href"} & {name for name, _ in attrs}
        if tag in self.paired:
            self.open.append(tag)
    def handle_endtag(self, tag):
        if tag in self.paired:
            assert self.open.pop() == tag
text = open(sys.argv[1], encoding="utf-8").read()
page = Page()
page.feed(text)
assert not page.open and page.cells == 2 * (1 + 4 * 7), (page.open, page.cells)
assert "a&#60;b&#62;&#38;c.pith" in text and not page.seen & {"b", "script", "img", "link"}
EOF
check 'what the page holds' "$PYTHON" "$T/page.py" "$T/page.html"
check_exit 1 'page in a folder that is not there' "$PITH" info --html "$T/no/page.html" "$T/q4.pith"
head -c 2000 "$T/bf16.pith" >"$T/cut.pith"
check_exit 3 'truncated file' "$PITH" info "$T/cut.pith"
finish
