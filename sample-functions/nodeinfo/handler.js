// What Node.js knows about the machine and the container it runs in, from its os module.
//
// Prints one line per fact; with the word `verbose` in the body also the CPUs.
'use strict';

const os = require('os');
const util = require('util');

// More than anybody needs to write `verbose`; the rest of a body is not read.
const MAX_BODY_BYTES = 64 * 1024;

const MEBIBYTE = 1024 * 1024;

async function readBody(stream) {
  const parts = [];
  let size = 0;
  for await (const part of stream) {
    parts.push(part);
    size += part.length;
    if (size >= MAX_BODY_BYTES) break;
  }
  return Buffer.concat(parts).subarray(0, MAX_BODY_BYTES).toString();
}

function facts() {
  const mebibytes = (bytes) => `${Math.round(bytes / MEBIBYTE)} MiB`;
  return [
    ['Hostname', os.hostname()],
    ['Platform', os.platform()],
    ['Arch', os.arch()],
    ['Release', os.release()],
    ['Node.js', process.version],
    ['CPU count', os.cpus().length],
    ['Load', os.loadavg().map((load) => load.toFixed(2)).join(' ')],
    ['Memory', `${mebibytes(os.freemem())} free of ${mebibytes(os.totalmem())}`],
    ['Uptime', `${Math.floor(os.uptime())} s`],
  ];
}

async function main() {
  const body = await readBody(process.stdin);
  let text = facts().map(([name, value]) => `${name}: ${value}\n`).join('');
  if (body.includes('verbose')) {
    text += `${util.inspect(os.cpus(), { depth: null, maxArrayLength: null })}\n`;
  }
  process.stdout.write(text);
}

main().catch((error) => {
  process.stderr.write(`nodeinfo: ${error.message}\n`);
  process.exitCode = 1;
});
