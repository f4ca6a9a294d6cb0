// A client of an MCP server and the server, by Node alone: it gives a child pairs of sockets for its standard input and output.
// The server notifies, answers out of order, and dies at its last call.
const { spawn } = require('child_process');
const readline = require('readline');

const write = (stream, message) => stream.write(JSON.stringify({ ...message, jsonrpc: '2.0' }) + '\n');
const serverInfo = { name: 'noder', version: '1' };

function server() {
  const held = [];
  readline.createInterface({ input: process.stdin }).on('line', line => {
    const { id, method, params } = JSON.parse(line);
    if (method === 'initialize') write(process.stdout, { result: { protocolVersion: '2025-06-18', capabilities: {}, serverInfo }, id });
    if (method !== 'tools/call') return;
    if (params.name === 'die') process.exit(3);
    write(process.stdout, { method: 'notifications/message', params: { level: 'info', data: params.name } });
    held.push({ result: { content: [{ type: 'text', text: 'hi ' + params.arguments.who }] }, id });
    if (held.length === 2) held.reverse().forEach(answer => write(process.stdout, answer));
  });
}

function client() {
  const child = spawn(process.execPath, [__filename, 'server'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const call = (id, name, args) => write(child.stdin, { method: 'tools/call', params: { name, arguments: args }, id });
  let answers = 0;
  readline.createInterface({ input: child.stdout }).on('line', line => {
    if (JSON.parse(line).method) return;
    answers += 1;
    if (answers === 1) {
      call(1, 'greet', { who: 'x'.repeat(1 << 20) });
      call('two', 'greet', { who: 'b' });
    }
    if (answers === 3) call(3, 'die', {});
  });
  write(child.stdin, { method: 'initialize', params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: serverInfo }, id: 0 });
}

process.argv[2] === 'server' ? server() : client();
