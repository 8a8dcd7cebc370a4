// Verifies, decrypts, signs and encrypts with the npm package `jose`: one JSON object per line in, one out.
import { createInterface } from "node:readline";
import * as jose from "jose";

const text = new TextDecoder();

async function answer({ action, token, key, header, claims, options }) {
  const imported = await jose.importJWK(key, header?.alg ?? key.alg);
  switch (action) {
    case "verify":
      return (await jose.jwtVerify(token, imported, options)).payload;
    case "verify with a set":
      return (await jose.jwtVerify(token, jose.createLocalJWKSet({ keys: [key] }), options)).payload;
    case "decrypt":
      return (await jose.jwtDecrypt(token, imported, options)).payload;
    case "sign":
      return await new jose.SignJWT(claims).setProtectedHeader(header).sign(imported);
    case "encrypt":
      return await new jose.EncryptJWT(claims).setProtectedHeader(header).encrypt(imported);
    case "read":  // what front-end code does with a token of the HMACSealer
      return JSON.parse(text.decode(jose.base64url.decode(token.split(".")[1]))).session;
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  try {
    console.log(JSON.stringify({ result: await answer(JSON.parse(line)) }));
  } catch (error) {
    console.log(JSON.stringify({ error: `${error.code ?? error.name}: ${error.message}` }));
  }
}
