//! What each mailbox holds and what each of its devices shows; where they differ the mailbox is ready.
