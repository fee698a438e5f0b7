//! Every source against real Dovecots and real Cyruses of both generations: after each change every device shows
//! STATUS's count. What takes the machine for itself to measure is in `harm`, `watching` and `whole_path`.

mod cyrus;
mod doveadm;
mod dovecot;
mod imap;
mod maildir;

mod first_mail;
mod limits;
mod order;
