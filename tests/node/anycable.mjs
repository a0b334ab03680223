// @anycable/core as its README starts it, with `ws` in the browser's place.

import { createCable } from "@anycable/core";
import { WebSocket } from "ws";
import { bearer, run, say } from "./lines.mjs";

const SUBPROTOCOL = "actioncable-v1-json";

await run(({ url, token, browser, reconnectMilliseconds }) => {
  const cable = createCable(url, {
    protocol: SUBPROTOCOL,
    websocketImplementation: WebSocket,
    logLevel: "error",
    ...(browser
      ? { subprotocol: [SUBPROTOCOL, bearer(token)] }
      : { websocketOptions: { headers: { Authorization: `Bearer ${token}` } } }),
    ...(reconnectMilliseconds ? { reconnectStrategy: () => reconnectMilliseconds } : {}),
  });
  cable.on("close", (event) => say("closed", { reason: event?.reason ?? null }));
  const channels = {};
  return {
    connect: () => cable.connect().catch(() => {}),
    subscribe({ key, identifier }) {
      const { channel, ...params } = JSON.parse(identifier);
      listen(key, (channels[key] = cable.subscribeTo(channel, params)));
      say("identifier", { key, identifier: channels[key].identifier });
    },
    perform: ({ key, action, data }) => channels[key].perform(action, data),
    unsubscribe: ({ key }) => channels[key].disconnect(),
    disconnect: () => cable.disconnect(),
    state: () => say("state", { open: cable.state === "connected", monitoring: !["closed", "idle"].includes(cable.state) }),
  };
});

function listen(key, channel) {
  channel.on("connect", ({ reconnect }) => say("connected", { key, reconnected: reconnect }));
  channel.on("disconnect", () => say("disconnected", { key, returning: true }));
  channel.on("close", (event) => say(event?.name === "SubscriptionRejectedError" ? "rejected" : "ended", { key }));
  channel.on("message", (message) => say("received", { key, message }));
}
