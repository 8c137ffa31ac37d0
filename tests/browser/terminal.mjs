// A terminal session as an SVG: the commands, and the output that they wrote to a real terminal.

const FONT = 14;
// Wide enough for every usual monospace font.
const CHARACTER = FONT * 0.61;
const LINE = 20;
const MARGIN = 20;
const BAR = 36;
// Between an output and the next command.
const GAP = 8;

// `session`: the commands with the bytes that each has written.
export function terminal(session, columns) {
  const lines = session.flatMap(({ command, output }) => [{ command }, ...screen(output).map((text) => ({ text }))]);
  const width = Math.ceil(columns * CHARACTER + 2 * MARGIN);
  let y = BAR;
  const rows = lines.map(({ command, text }, row) => {
    y += LINE + (command !== undefined && row > 0 ? GAP : 0);
    const content = command === undefined ? escape(text) : `<tspan class="p">$</tspan> <tspan class="c">${escape(command)}</tspan>`;
    return `<text x="${MARGIN}" y="${y - 6}">${content}</text>`;
  });
  const height = y + MARGIN;
  const lights = ["#ff5f57", "#febc2e", "#28c840"].map((color, n) => `<circle cx="${MARGIN + 4 + n * 20}" cy="18" r="6" fill="${color}"/>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="A terminal session">
<style>
text { font: ${FONT}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; fill: #c9d1d9; white-space: pre; }
.p { fill: #3fb950; }
.c { fill: #ffffff; font-weight: 600; }
</style>
<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="10" fill="#161b22" stroke="#484f58"/>
${[...lights, ...rows].join("\n")}
</svg>
`;
}

// The lines that a terminal shows after these bytes: carriage returns, tabs, backspaces and "erase to the end of the line" do what
// they do there; other escape sequences do nothing.
export function screen(output) {
  const lines = [[]];
  let column = 0;
  for (const [token] of output.matchAll(/\x1b\[[0-9;?]*[A-Za-z]|\x1b.|[^]/gu)) {
    const line = lines.at(-1);
    if (token === "\n") {
      lines.push([]);
      column = 0;
    } else if (token === "\r") column = 0;
    else if (token === "\b") column = Math.max(0, column - 1);
    else if (token === "\t") column = (Math.floor(column / 8) + 1) * 8;
    else if (/^\x1b\[0?K$/.test(token)) line.length = Math.min(line.length, column);
    else if (token === "\x1b[2K") line.length = 0;
    else if (token >= " ") line[column++] = token;
  }
  const texts = lines.map((line) => Array.from(line, (character) => character ?? " ").join("").trimEnd());
  while (texts.at(-1) === "") texts.pop();
  return texts;
}

function escape(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
