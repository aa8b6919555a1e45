"""Raw video to shard, and shard to clip."""
