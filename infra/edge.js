// The CloudFront function of a stack that has a domain. `scripts/template` copies it into template.yaml, from the next line
// on, with the stack's domain and the stub filled in. CloudFront accepts 10,240 bytes.
const ORIGIN = 'https://DOMAIN';
const STUB = `STUB`;
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.+'-]*$/;

const quote = (text) => "'" + text.replace(/'/g, "'\\''") + "'";

function stub(uri, query) {
  const parts = uri.slice(1).split('/').map(decodeURIComponent);
  if (parts.length > 2 || !NAME.test(parts[0])) return null;
  // A package is named by the last part of its attribute. A program may be called `[`.
  const name = parts.length === 2 ? parts[1] : parts[0].slice(parts[0].lastIndexOf('.') + 1);
  if (name !== '[' && !NAME.test(name)) return null;
  const target = parts.map((part) => encodeURIComponent(part).replace(/'/g, '%27')).join('/') + query;
  return `#!/bin/sh\n# This script becomes the program. Save it, and run it with sh. To save the program itself:\n` +
    `#   curl -L '${ORIGIN}/${target}' -o ${quote(name)}\n` + STUB + `{ binplz '${ORIGIN}' '${target}' ${quote(name)} "$@"; }\n`;
}

function handler(event) {
  const request = event.request;
  // Overwrites the header if the client sent one itself.
  request.headers['x-binplz-viewer'] = { value: event.viewer.ip };
  const proto = request.headers['cloudfront-forwarded-proto'];
  if (!proto || proto.value.toLowerCase() !== 'http') return request;

  const all = [], known = [];
  for (const name in request.querystring) {
    const value = request.querystring[name].value;
    const pair = value === '' ? name : name + '=' + value;
    all.push(pair);
    if (/^(bundle|full|(sys|pin|nixpkgs-commit)=[A-Za-z0-9_.-]+)$/.test(pair)) known.push(pair);
  }
  let body = null;
  try {
    body = stub(request.uri, known.length ? '?' + known.join('&') : '');
  } catch (error) {
    // The path is not valid percent-encoding. The request over https gets that answer.
  }
  const reads = request.method === 'GET' || request.method === 'HEAD';
  return {
    statusCode: reads ? 301 : 308,
    statusDescription: reads ? 'Moved Permanently' : 'Permanent Redirect',
    headers: {
      'location': { value: ORIGIN + request.uri + (all.length ? '?' + all.join('&') : '') },
      'content-type': { value: 'text/plain; charset=utf-8' },
      'cache-control': { value: 'no-store' },
      'x-request-id': { value: event.context.requestId }
    },
    body: body || `printf '%s\\n' 'binplz: use ${ORIGIN} instead (https)' >&2; exit 1\n`
  };
}
