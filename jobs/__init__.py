"""What runs on the cluster: shard, train, evaluate, and how they are launched."""
