// What a script and the test that drives it say to each other: one JSON object a line, orders in, facts out.

import { createInterface } from "node:readline";

/** Tell the test a fact. */
export function say(on, fact = {}) {
  process.stdout.write(JSON.stringify({ on, ...fact }) + "\n");
}

/**
 * Run a client: `start(options)` gets the first line and returns what carries out each order by its `do`.
 * An order that fails is told as `failed`; the end of the input ends the process.
 */
export async function run(start) {
  let orders;
  for await (const line of createInterface({ input: process.stdin })) {
    const said = JSON.parse(line);
    if (!orders) {
      orders = start(said);
      continue;
    }
    try {
      await orders[said.do](said);
    } catch (error) {
      say("failed", { order: said.do, key: said.key, message: String(error) });
    }
  }
  process.exit(0);
}

/** The subprotocol by which a browser, which can't set headers, hands over its token. */
export function bearer(token) {
  return "base64url.bearer.authorization.k8s.io." + Buffer.from(token).toString("base64url");
}
