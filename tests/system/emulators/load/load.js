// See test_runtimes.py.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { createHash } = require('crypto');

function work(seed, steps) {
    const table = new Array(1000).fill(null);
    let x = seed, sum = 0;
    for (let i = 0; i < steps; i++) {
        x = x * 48271 % 2147483647;
        table[x % 1000] = { value: x, text: String(x) };
        const other = table[Math.floor(x / 1000) % 1000];
        if (other) sum = (sum + other.value + other.text.length) % 1000000007;
    }
    return sum;
}

async function main(threads, rounds, steps) {
    let total = 0;
    for (let round = 0; round < rounds; round++) {
        const sums = [];
        for (let i = 1; i <= threads; i++) {
            sums.push(new Promise((good, bad) => {
                const worker = new Worker(__filename, { workerData: [round * threads + i, steps] });
                worker.on('message', good);
                worker.on('error', bad);
            }));
        }
        // Meanwhile this thread makes rubbish, too.
        for (let i = 0; i < 200; i++) createHash('sha256').update(Buffer.alloc(4096, i)).digest('hex');
        for (const sum of await Promise.all(sums)) total += sum;
    }
    console.log(total);
}

if (isMainThread) main(...process.argv.slice(2).map(Number));
else parentPort.postMessage(work(...workerData));
