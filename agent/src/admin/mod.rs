//! What the daemon shows of itself: metrics, health, status.
