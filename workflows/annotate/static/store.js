// This browser's own store. A browser may close it under a page that is open, as when site data is cleared. It is opened
// anew then, unless that fails, too: Safari may lose its store until the page is loaded again.

const FULL = "QuotaExceededError";

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("sam-engine-annotate", 1);
    request.onupgradeneeded = () => {
      for (const name of ["outbox", "drafts", "refused"]) request.result.createObjectStore(name);
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** What a request brought, once its transaction is on disk: a full disk shows only then. */
function done(request) {
  const { transaction } = request;
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error ?? request.error);
  });
}

export class Store {
  #database;

  static async open() {
    const store = new Store();
    store.#database = await open();
    return store;
  }

  /** What a request of "outbox", "drafts" or "refused" brings: `request` makes it of the object store. */
  read(name, request) {
    return this.#ask(name, "readonly", request);
  }

  /** The same for a request that changes something, once that is on disk. */
  write(name, request) {
    return this.#ask(name, "readwrite", request);
  }

  async #ask(name, mode, request) {
    const ask = () => done(request(this.#database.transaction(name, mode).objectStore(name)));
    try {
      return await ask();
    } catch (error) {
      if (error.name === FULL) throw error;
    }
    this.#database.close();
    this.#database = await open();
    return ask();
  }
}
