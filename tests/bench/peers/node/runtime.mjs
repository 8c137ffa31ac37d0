// Lambda's runtime for Node, as small as it can be: AWS's own (aws-lambda-ric) is compiled when it is installed, with cmake and
// curl's sources. What it leaves out is in Node's favour.
import { createRequire } from "node:module";
import http from "node:http";

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");

function ask(method, path, body) {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "content-length": Buffer.byteLength(body) };
    const request = http.request({ agent, host, port, method, path: `/2018-06-01/runtime/${path}`, headers });
    request.on("error", reject).on("response", (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (data) => (text += data));
      response.on("end", () => resolve([response.headers["lambda-runtime-aws-request-id"], text]));
    });
    request.end(body);
  });
}

const { handler } = createRequire(import.meta.url)(process.argv[2]);
for (;;) {
  const [id, event] = await ask("GET", "invocation/next");
  await ask("POST", `invocation/${id}/response`, JSON.stringify(await handler(JSON.parse(event))));
}
