// Serves one page, reads it, and says what it said.
const http = require('node:http');
const os = require('node:os');

const server = http.createServer((request, response) => {
  response.end(`hello from Node.js on ${os.arch()}, ${os.endianness() === 'LE' ? 'little' : 'big'}-endian\n`);
});
server.listen(0, '127.0.0.1', async () => {
  const page = await fetch(`http://127.0.0.1:${server.address().port}/`);
  process.stdout.write(await page.text());
  server.close();
});
