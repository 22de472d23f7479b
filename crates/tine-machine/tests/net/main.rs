//! The network of boxes, on real namespaces, bridges and firewall tables.

#[cfg(test)]
mod guest;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod reach;
#[cfg(test)]
mod tap;
#[cfg(test)]
mod world;
