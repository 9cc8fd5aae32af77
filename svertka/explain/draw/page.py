"""The animation as a page with a player: self-contained, for a mouse, a keyboard or a thumb."""

from __future__ import annotations

from svertka.explain.draw import style, svg
from svertka.explain.draw.sheets import Sheet


def whole(drawn: Sheet, seconds: float) -> str:
    """A page that needs nothing but itself."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>{svg.escape(drawn.title)}</title>'
        f"<style>{_PAGE}</style></head><body>{player(drawn, seconds)}</body></html>"
    )


def player(drawn: Sheet, seconds: float = 0.8) -> str:
    """The player alone; without scripts it shows the first frame."""
    pairs = []
    for i in range(sum(name.startswith("input") for name in drawn.slots)):
        kernel = f'<span class="op">∗</span>{_panel(drawn, f"kernel {i}")}' if f"kernel {i}" in drawn.slots else ""
        line = "" if f"times {i}" in drawn.slots else " line"
        pairs.append(f'<div class="pair{line}">{_panel(drawn, f"input {i}")}{kernel}</div>')
    first = drawn.frames[0]
    operator = "=" if first.kernels else first.operator + " →"
    across = "" if "becomes" in drawn.slots else " line"
    formulas = "".join(
        f'<p data-a="{i}" data-b="{i + 1}"{"" if i == 0 else _HIDDEN}><small>Output at '
        f"{', '.join(map(str, frame.step.output[1:]))}</small><br>{' '.join(map(_piece, frame.formula[:-1]))} "
        f"<b>{_piece(frame.formula[-1])}</b></p>"
        for i, frame in enumerate(drawn.frames)
    )
    notes = "".join(f"<small>{svg.escape(note)}</small><br>" for note in first.notes)
    return (
        f'<div class="svertka player" tabindex="0" data-count="{drawn.count}" data-seconds="{seconds:g}">'
        f"<style>{style.css()}{_CSS}</style><h1>{svg.escape(drawn.title)}</h1>"
        f'<div class="panels{across}"><div>{"".join(pairs)}</div><div class="pair{across}">'
        f'<span class="op">{svg.escape(operator)}</span>{_panel(drawn, "output")}</div></div>'
        f'<div class="formula">{formulas}</div>{notes}{_CONTROLS.format(last=drawn.count - 1, count=drawn.count)}'
        f"<script>{_SCRIPT}</script></div>"
    )


def _panel(drawn: Sheet, name: str) -> str:
    slot = drawn.slots[name]
    body = "".join(
        f'<g data-a="{t.start}" data-b="{t.stop}"{"" if t.start == 0 else _HIDDEN}>{svg.elements(t.shapes)}</g>'
        for t in drawn.tracks
        if t.slot == name
    )
    drawing = svg.document(body, slot.width, slot.height, name, styled=False)
    return f'<span class="panel" data-name="{name}">{drawing}</span>'


def _piece(text: str) -> str:
    return f'<span class="piece">{svg.escape(text)}</span>'


_HIDDEN = ' style="display:none"'
_PAGE = "body{margin:0;background:#fff}@media (prefers-color-scheme:dark){body{background:#14171c}}"
_CSS = (
    ".player{box-sizing:border-box;max-width:1200px;margin:0 auto;padding:16px;background:var(--paper);"
    "color:var(--ink);outline:none;line-height:1.5}"
    ".player h1{font-size:18px;margin:0 0 12px}.player small{color:var(--faint);font-size:13px}"
    ".player .panels{display:flex;flex-wrap:wrap;align-items:center;gap:4px 0}"
    ".player .panels.line,.player .pair.line{display:block}.player .line .op{display:none}"
    ".player .pair{display:flex;flex-wrap:wrap;align-items:center;max-width:100%;margin-bottom:6px}"
    ".player .panel{display:block;max-width:100%}.player .panel svg{display:block}"
    ".player .op{padding:20px 14px 0;color:var(--faint);font-size:20px}"
    ".player [data-name=output]{cursor:pointer}"
    ".player .formula{min-height:5.2em;font-size:16px}.player .formula p{margin:8px 0}"
    ".player .piece{white-space:nowrap}.player .formula b{color:var(--current)}"
    ".player .controls{display:flex;align-items:center;gap:8px;margin-top:8px;position:sticky;bottom:0;"
    "background:var(--paper);padding:8px 0}"
    ".player button{min-width:44px;height:44px;border:1px solid var(--line);border-radius:8px;background:var(--input);"
    "color:var(--ink);font:inherit;font-size:18px;cursor:pointer}"
    ".player button:focus-visible,.player:focus-visible h1,.player input:focus-visible{"
    "outline:3px solid var(--current);outline-offset:2px}"
    ".player input{flex:1;min-width:60px;height:44px;accent-color:var(--current)}"
    ".player output{min-width:4.5em;text-align:right;color:var(--faint)}"
)
_CONTROLS = (
    '<div class="controls"><button data-do="back" aria-label="one step back">◀</button>'
    '<button data-do="play" aria-label="play or pause">▶▶</button>'
    '<button data-do="on" aria-label="one step on">▶</button>'
    '<input type="range" min="0" max="{last}" value="0" aria-label="step"><output>1 / {count}</output></div>'
)
_SCRIPT = """
for (const root of document.querySelectorAll('.svertka.player:not([data-ready])')) {
  root.dataset.ready = 1;
  const count = +root.dataset.count, pause = 1000 * root.dataset.seconds;
  const find = (selector) => root.querySelector(selector);
  const slider = find('input'), shown = find('output'), button = find('[data-do=play]');
  const parts = [...root.querySelectorAll('[data-a]')].map((e) => [e, +e.dataset.a, +e.dataset.b]);
  let now = 0, timer = 0;
  const go = (to) => {
    now = Math.max(0, Math.min(count - 1, to));
    for (const [e, a, b] of parts) e.style.display = a <= now && now < b ? '' : 'none';
    slider.value = now;
    shown.textContent = `${now + 1} / ${count}`;
  };
  const stop = () => { clearInterval(timer); timer = 0; button.textContent = '▶▶'; };
  const play = () => {
    if (now === count - 1) go(0);
    button.textContent = '❚❚';
    timer = setInterval(() => (now === count - 1 ? stop() : go(now + 1)), pause);
  };
  const toggle = () => (timer ? stop() : play());
  const by = (step) => { stop(); go(now + step); };
  find('[data-do=back]').onclick = () => by(-1);
  find('[data-do=on]').onclick = () => by(1);
  button.onclick = toggle;
  slider.oninput = () => { stop(); go(+slider.value); };
  const keys = { ArrowLeft: () => by(-1), ArrowRight: () => by(1), Home: () => by(-count), End: () => by(count),
    ' ': toggle };
  root.onkeydown = (event) => {
    if (event.key === ' ' && event.target.tagName === 'BUTTON') return;
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  };
  for (const rect of root.querySelectorAll('[data-name=output] .b-to-come')) {
    const cells = [...rect.parentNode.querySelectorAll('.b-to-come')];
    rect.parentNode.parentNode.addEventListener('click', (event) => {
      const box = rect.getBoundingClientRect();
      if (rect.parentNode.style.display === 'none' || event.clientX < box.left || event.clientX >= box.right
        || event.clientY < box.top || event.clientY >= box.bottom) return;
      by(+rect.parentNode.dataset.a + cells.indexOf(rect) - now);
    });
  }
  if (document.body.firstElementChild === root) root.focus();
}
"""
