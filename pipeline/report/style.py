"""The look of the page of a run: neutral, light or dark as the reader's system is."""

STYLE = """
:root { color-scheme: light dark;
  --ink: #1c2024; --quiet: #5b6470; --paper: #fbfbfa; --line: #dcdfe3; --fill: #eef0f2;
  --done: #3a7d5c; --earlier: #9dbfae; --failed: #c2553f; --left: #d8a03d; --absent: #b4bac2; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e3e6e9; --quiet: #98a1ab; --paper: #16181b; --line: #33383e; --fill: #22262a;
  --done: #55a57d; --earlier: #35604b; --failed: #d8705a; --left: #d8a03d; --absent: #555c65; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 2rem auto 4rem; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; font-weight: 600; margin: 0 0 .25rem; }
h2 { font-size: 1.05rem; font-weight: 600; margin: 2.5rem 0 .75rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; }
p.good, p.bad { display: inline-block; margin: 0; padding: .3rem .7rem; border-radius: 4px;
  background: var(--fill); border-left: 4px solid var(--done); overflow-wrap: anywhere; }
p.bad { border-left-color: var(--failed); }
code { font: .86em/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
a { color: inherit; text-underline-offset: 2px; }
.wide { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; }
table.rows { width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem 1.1rem .3rem 0;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
th { font-weight: 500; color: var(--quiet); white-space: nowrap; }
td:first-child { overflow-wrap: anywhere; }
td:first-child > code { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; width: 5rem; }
td:has(> .bar) { width: 30%; min-width: 8rem; vertical-align: middle; }
.bar { display: flex; height: .7rem; border-radius: 3px; overflow: hidden;
  background: var(--fill); }
section > .bar { height: 1.4rem; }
.done { background: var(--done); } .earlier { background: var(--earlier); }
.failed { background: var(--failed); } .left { background: var(--left); }
.absent { background: var(--absent); }
ul { list-style: none; margin: 0; padding: 0; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.6rem; margin-top: .6rem; }
.key { display: inline-block; width: .75rem; height: .75rem; border-radius: 2px;
  margin-right: .4rem; }
.examples li { color: var(--quiet); overflow-wrap: anywhere; margin-bottom: .35rem; }
.examples code { color: var(--ink); }
.side { display: flex; flex-wrap: wrap; gap: 0 4rem; align-items: flex-start; }
"""
