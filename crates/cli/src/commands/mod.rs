//! One file per command.

pub(crate) mod batch;
pub(crate) mod change;
pub(crate) mod client;
pub(crate) mod client_list;
pub(crate) mod client_mapped;
mod client_menu;
mod client_tables;
pub(crate) mod completion;
pub(crate) mod digest;
pub(crate) mod flush;
pub(crate) mod latency;
pub(crate) mod lookup;
mod lost;
pub(crate) mod monitor;
mod monitor_exec;
pub(crate) mod mq;
pub(crate) mod neigh_show;
mod positions;
pub(crate) mod reload;
pub(crate) mod route_get;
pub(crate) mod route_load;
pub(crate) mod route_save;
pub(crate) mod route_show;
pub(crate) mod source;
pub(crate) mod stat;
pub(crate) mod status;
pub(crate) mod status_image;
pub(crate) mod sync;
pub(crate) mod tour;
pub(crate) mod wait;

use serde_json::Value;

/// A JSON value as a cell of a table: empty if it is null or absent.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}
