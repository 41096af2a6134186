// Verifies signatures by the reference library: one JSON case a line on standard input, one verdict a line out.
import { createInterface } from "node:readline";
import { Webhook } from "standardwebhooks";

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, headers, body } = JSON.parse(line);
  try {
    new Webhook(secret).verify(Buffer.from(body, "base64"), headers, { jsonParse: false });
    console.log("good");
  } catch (error) {
    console.log(`bad: ${error.message}`);
  }
}
