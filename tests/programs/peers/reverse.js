// reverse.js server|client PORT ...: see README.md of this folder.
'use strict';
const net = require('net');
const fs = require('fs');
const crypto = require('crypto');

const SIZES = [1, 10, 100, 1000, 10000, 100000];
const [role, port, file, connections, rounds] = process.argv.slice(2);

// Calls back with each whole message.
function messages(socket, each) {
    let have = [];
    let size = 0;
    socket.on('data', (piece) => {
        have.push(piece);
        size += piece.length;
        for (;;) {
            if (size < 4)
                return;
            let all = have.length === 1 ? have[0] : Buffer.concat(have);
            have = [all];
            const n = all.readUInt32BE(0);
            if (size < 4 + n)
                return;
            const body = all.subarray(4, 4 + n);
            have = [all.subarray(4 + n)];
            size -= 4 + n;
            each(body);
        }
    });
}

function send(socket, body) {
    const head = Buffer.alloc(4);
    head.writeUInt32BE(body.length, 0);
    socket.cork(); // one writev: no delayed acknowledgement in between
    socket.write(head);
    socket.write(body);
    socket.uncork();
}

function serve() {
    const server = net.createServer((socket) => {
        messages(socket, (body) => send(socket, Buffer.from(body).reverse()));
        socket.on('error', () => socket.destroy());
    });
    server.listen(Number(port), '127.0.0.1');
    process.on('SIGTERM', () => process.exit(0));
}

function ask() {
    const blob = fs.readFileSync(file);
    const sums = [];
    let open = Number(connections);
    for (let k = 0; k < Number(connections); k++) {
        const digest = crypto.createHash('sha256');
        const socket = net.connect(Number(port), '127.0.0.1');
        let i = 0;
        const next = () => {
            const at = i * 37 % 5000;
            send(socket, blob.subarray(at, at + SIZES[i % SIZES.length]));
        };
        socket.on('connect', next);
        messages(socket, (body) => {
            digest.update(body);
            if (++i < Number(rounds))
                return next();
            socket.end();
        });
        socket.on('close', () => {
            sums[k] = digest.digest('hex');
            if (--open === 0)
                sums.forEach((s, n) => console.log(n, rounds, s));
        });
    }
}

if (role === 'server')
    serve();
else
    ask();
