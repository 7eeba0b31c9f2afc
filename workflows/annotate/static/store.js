// This browser's own store. A browser may close it under a page that is open, as when site data is cleared. It is opened
// anew then, unless that fails, too: Safari may lose its store until the page is loaded again.

const FULL = "QuotaExceededError";
const OPENED = 3; // times, for one request

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
  const settled = new AbortController();
  const outcome = new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error ?? request.error);
    // Chromium may neither complete nor abort what was begun just before it closed the store
    const lose = () => reject(new DOMException("the browser closed its store", "AbortError"));
    transaction.db.addEventListener("close", lose, { signal: settled.signal });
  });
  return outcome.finally(() => settled.abort());
}

export class Store {
  #database; // a promise
  #isHeld = false;

  static async open() {
    const store = new Store();
    store.#database = open();
    await store.#database;
    return store;
  }

  /** Asks that this outlive a disk that runs short. Some browsers ask the person, so only once something waits here. */
  async hold() {
    if (this.#isHeld) return;
    this.#isHeld = true;
    await navigator.storage?.persist?.().catch(() => {}); // not where the page came over plain HTTP from elsewhere
  }

  /** What a request of "outbox", "drafts" or "refused" brings: `request` makes it of the object store. */
  read(name, request) {
    return this.#ask([name], "readonly", request);
  }

  /** The same for a request that changes something, or several in as many stores, once all of it is on disk. */
  write(names, request) {
    return this.#ask(names, "readwrite", request);
  }

  async #ask(names, mode, request) {
    for (let attempts = OPENED; ; attempts--) {
      const database = this.#database;
      try {
        const transaction = (await database).transaction(names, mode);
        return await done(request(...names.map((name) => transaction.objectStore(name))));
      } catch (error) {
        if (error.name === FULL || !attempts) throw error;
        this.#anew(database);
      }
    }
  }

  /** The store opened once more, once for all that lost the same one. */
  #anew(lost) {
    if (this.#database !== lost) return;
    lost.then((database) => database.close(), () => {});
    this.#database = open();
  }
}
