// @rails/actioncable as a browser runs it: node lacks only the window it listens to and the document it looks at.

import ActionCable from "@rails/actioncable";
import { WebSocket } from "ws";
import { bearer, run, say } from "./lines.mjs";

globalThis.document = { visibilityState: "visible" };
globalThis.addEventListener = globalThis.removeEventListener = () => {};

await run(({ url, token, browser, staleSeconds }) => {
  ActionCable.adapters.WebSocket = browser ? WebSocket : withHeader(token);
  if (staleSeconds) ActionCable.ConnectionMonitor.staleThreshold = staleSeconds;
  const consumer = ActionCable.createConsumer(url);
  if (browser) consumer.addSubProtocol(bearer(token));
  const subscriptions = {};
  return {
    connect: () => consumer.connect(),
    subscribe({ key, identifier }) {
      const subscription = new ActionCable.Subscription(consumer, {}, callbacks(key));
      subscription.identifier = identifier;
      subscriptions[key] = consumer.subscriptions.add(subscription);
    },
    perform: ({ key, action, data }) => subscriptions[key].perform(action, data),
    unsubscribe: ({ key }) => subscriptions[key].unsubscribe(),
    disconnect: () => consumer.disconnect(),
    state: () => say("state", { open: consumer.connection.isOpen(), monitoring: Boolean(consumer.connection.monitor.isRunning()) }),
  };
});

function callbacks(key) {
  return {
    connected: ({ reconnected }) => say("connected", { key, reconnected }),
    disconnected: ({ willAttemptReconnect }) => say("disconnected", { key, returning: Boolean(willAttemptReconnect) }),
    rejected: () => say("rejected", { key }),
    received: (message) => say("received", { key, message }),
  };
}

function withHeader(token) {
  return class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { headers: { Authorization: `Bearer ${token}` } });
    }
  };
}
