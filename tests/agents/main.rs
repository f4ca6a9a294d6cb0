//! Real agents from end to end: recorded, compared with what truly happened, and resumed with another prompt.

mod example;
mod openai_agents;
mod sandbox;
mod truth;
