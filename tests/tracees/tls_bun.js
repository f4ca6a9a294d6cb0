// HTTPS as Bun's programs speak it. Arguments: port, certificate.
const [port, certificate] = process.argv.slice(2);
const tls = { ca: Bun.file(certificate) };
for (const body of ["small", "large ".repeat(150000), ""]) {
  const response = await fetch(`https://localhost:${port}/bun`, { method: "POST", body, tls });
  if ((await response.arrayBuffer()).byteLength !== 300000) throw new Error("it is cut");
}
