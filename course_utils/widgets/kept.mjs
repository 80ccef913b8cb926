// A training that outlives its page: one record in the browser's own database, replaced as a whole,
// so that a page which is closed while it is written leaves the one before.

const [DATABASE, STORE, KEY] = ["course-training", "trainings", "latest"];

function opened() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open(DATABASE, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

/** Do something with the store, and wait until it is on disk. */
async function within(mode, action) {
  const database = await opened();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction(STORE, mode, { durability: "strict" });
      const asked = action(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(asked.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  } finally {
    database.close();
  }
}

/** @returns {Promise<object|undefined>} */
export function recall() {
  return within("readonly", (store) => store.get(KEY));
}

export function keep(state) {
  return within("readwrite", (store) => store.put(state, KEY));
}
