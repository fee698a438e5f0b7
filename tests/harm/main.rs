//! The agent does no harm (product.md §1, promise 2): a delivery never waits long for it, be the agent healthy, killed,
//! frozen or flooded by strangers.

mod healthy;
mod supervised;

mod floods;
mod listeners;
mod cuts;
mod hostile;
mod strangers;
