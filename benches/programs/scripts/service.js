// What a service does with memory outside of the garbage collector's heap: buffers
// cut and joined, compressed, hashed and parsed, many of them alive at once; workers
// with heaps of their own. Usage: service.js ROUNDS
'use strict';
const crypto = require('crypto');
const zlib = require('zlib');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

let state = 42;
const draw = (n) => {
  state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
  return (state >>> 8) % n;
};

function serve(rounds) {
  const digest = crypto.createHash('sha256');
  const live = new Map();
  for (let round = 0; round < rounds; round++) {
    const records = [];
    for (let i = 0; i < 1500; i++) {
      records.push({ id: round * 1500 + i, name: `user${draw(100000)}`, tags: [draw(9), draw(99), `t${draw(999)}`] });
    }
    const text = JSON.stringify(records);
    const packed = zlib.deflateSync(text, { level: 3 });
    live.set(draw(64), packed);
    const again = JSON.parse(zlib.inflateSync(packed).toString());
    const chunks = [];
    for (const record of again) {
      const chunk = Buffer.allocUnsafeSlow(64 + draw(2000));
      chunk.fill(record.id & 255);
      chunk.write(record.name, 8, 'latin1');
      chunks.push(chunk);
      if (chunks.length > 200) digest.update(Buffer.concat(chunks.splice(draw(100), 50)));
    }
    digest.update(Buffer.concat(chunks));
    const key = crypto.createHmac('sha1', `key${round}`).update(text).digest();
    const cipher = crypto.createCipheriv('aes-128-cbc', key.subarray(0, 16), Buffer.alloc(16));
    digest.update(Buffer.concat([cipher.update(text), cipher.final()]));
    new Function('a', `return a.map((x) => x.id * ${round + 1}).filter((x) => x % 3).length`)(again);
  }
  for (const [slot, packed] of [...live].sort((a, b) => a[0] - b[0])) digest.update(`${slot}:${packed.length};`);
  return digest.digest('hex');
}

if (!isMainThread) {
  state = workerData.seed;
  parentPort.postMessage(serve(workerData.rounds));
} else {
  const rounds = Number(process.argv[2] || 2);
  const parts = [serve(rounds)];
  const workers = [1, 2, 3].map((seed) => new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: { seed, rounds: Math.ceil(rounds / 3) } });
    worker.on('message', resolve);
    worker.on('error', reject);
  }));
  Promise.all(workers).then((more) => console.log(parts.concat(more).join('\n')));
}
