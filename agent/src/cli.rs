//! Arguments, sub-commands and exit codes; no decisions.
