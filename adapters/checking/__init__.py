"""The continuous comparison of the log with each read model (SEMANTICS §8): bucket by bucket, named to the row.

What a bucket is follows from the form of the projection:

* rows that follow from one event: a range of positions, folded from the log and compared byte by byte;
* sums by key: a hash over the keys of a bucket, carried along with the log, for sums cannot be folded
  from a part of it;
* stories: the keys, each folded from its events;
* identities: the clusters, each resolved from the events that state their links.

Everything is compared within one snapshot, at the tracking position that stands in it: a read model
that moves is no difference, nor is what is parked. Nothing is locked that a projector needs.
"""
