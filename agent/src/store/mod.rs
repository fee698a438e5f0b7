//! What survives a restart: subscriptions, what devices show, proxy and identity state.
