// A link to a node that a test can cut.

import { createServer, connect } from "node:net";
import { once } from "node:events";

export class Link {
  /** Its address, `http://HOST:PORT`. */
  address;
  #server;
  #sockets = new Set();
  #isCut = false;

  static async to(node) {
    const { hostname, port } = new URL(node.address);
    const link = new Link();
    link.#server = createServer((socket) => link.#carry(socket, connect(port, hostname)));
    link.#server.listen(0, "127.0.0.1");
    await once(link.#server, "listening");
    link.address = `http://127.0.0.1:${link.#server.address().port}`;
    return link;
  }

  /** Breaks all connections, and refuses further ones until it is mended. */
  cut() {
    this.#isCut = true;
    this.#sockets.forEach((socket) => socket.destroy());
  }

  mend() {
    this.#isCut = false;
  }

  close() {
    this.cut();
    this.#server.close();
  }

  #carry(client, node) {
    for (const [from, to] of [[client, node], [node, client]]) {
      this.#sockets.add(from);
      from.on("error", () => {});
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
    if (this.#isCut) {
      client.destroy();
    }
  }
}
