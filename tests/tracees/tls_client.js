// HTTPS as Node's programs speak it: one connection, several requests. Arguments: port, certificate.
const fs = require("fs");
const https = require("https");

const [port, certificate] = process.argv.slice(2);
const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca: fs.readFileSync(certificate) });

function post(body) {
  return new Promise((done, failed) => {
    const request = https.request({ host: "localhost", port, path: "/node", method: "POST", agent }, (response) => {
      let length = 0;
      response.on("data", (data) => (length += data.length));
      response.on("end", () => (length === 300000 ? done() : failed(new Error(`${length}`))));
    });
    request.on("error", failed);
    request.end(body);
  });
}

(async () => {
  for (const body of ["small", Buffer.alloc(1000000, "large "), ""]) await post(body);
  agent.destroy();
})();
