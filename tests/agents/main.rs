//! Real agents from end to end: recorded, compared with what truly happened, and resumed with another prompt.

mod clients;
mod example;
mod mcp;
mod openai_agents;
mod sandbox;
mod truth;
