# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Redis 7.0.15 and 8.0.2 said and wrote, through ``redis-cli --no-raw``.

The server holds a, b (with a time to live), c and d in database 0 and e in 3.
"""

from __future__ import annotations

import base64

INFO = """\
# Server
redis_version:7.0.15
redis_git_sha1:00000000
redis_git_dirty:0
redis_build_id:e08dbad3e06f3fb
redis_mode:standalone
os:Linux 6.18.44-fc-v595 x86_64
arch_bits:64
monotonic_clock:POSIX clock_gettime
multiplexing_api:epoll
atomicvar_api:c11-builtin
gcc_version:12.2.0
process_id:1
process_supervised:no
run_id:a3b7038872894edf2ecc25df1ad4f7176f56cec7
tcp_port:6379
server_time_usec:1795358077253266
uptime_in_seconds:1
uptime_in_days:0
hz:10
configured_hz:10
lru_clock:195965
executable:/data/redis-server
config_file:
io_threads_active:0

# Memory
used_memory:1065760
used_memory_human:1.02M
used_memory_rss:12570624
used_memory_rss_human:11.99M
used_memory_peak:1227448
used_memory_peak_human:1.17M
used_memory_peak_perc:86.83%
used_memory_overhead:876808
used_memory_startup:876160
used_memory_dataset:188952
used_memory_dataset_perc:99.66%
allocator_allocated:2019744
allocator_active:2220032
allocator_resident:4984832
total_system_memory:25276514304
total_system_memory_human:23.54G
used_memory_lua:32768
used_memory_vm_eval:32768
used_memory_lua_human:32.00K
used_memory_scripts_eval:0
number_of_cached_scripts:0
number_of_functions:0
number_of_libraries:0
used_memory_vm_functions:33792
used_memory_vm_total:66560
used_memory_vm_total_human:65.00K
used_memory_functions:200
used_memory_scripts:200
used_memory_scripts_human:200B
maxmemory:0
maxmemory_human:0B
maxmemory_policy:noeviction
allocator_frag_ratio:1.10
allocator_frag_bytes:200288
allocator_rss_ratio:2.25
allocator_rss_bytes:2764800
rss_overhead_ratio:2.52
rss_overhead_bytes:7585792
mem_fragmentation_ratio:12.26
mem_fragmentation_bytes:11545464
mem_not_counted_for_evict:128
mem_replication_backlog:0
mem_total_replication_buffers:0
mem_clients_slaves:0
mem_clients_normal:0
mem_cluster_links:0
mem_aof_buffer:128
mem_allocator:jemalloc-5.3.0
active_defrag_running:0
lazyfree_pending_objects:0
lazyfreed_objects:0

# Persistence
loading:0
async_loading:0
current_cow_peak:0
current_cow_size:0
current_cow_size_age:0
current_fork_perc:0.00
current_save_keys_processed:0
current_save_keys_total:0
rdb_changes_since_last_save:5
rdb_bgsave_in_progress:0
rdb_last_save_time:1795358076
rdb_last_bgsave_status:ok
rdb_last_bgsave_time_sec:-1
rdb_current_bgsave_time_sec:-1
rdb_saves:0
rdb_last_cow_size:0
rdb_last_load_keys_expired:0
rdb_last_load_keys_loaded:0
aof_enabled:1
aof_rewrite_in_progress:0
aof_rewrite_scheduled:0
aof_last_rewrite_time_sec:-1
aof_current_rewrite_time_sec:-1
aof_last_bgrewrite_status:ok
aof_rewrites:0
aof_rewrites_consecutive_failures:0
aof_last_write_status:ok
aof_last_cow_size:0
module_fork_in_progress:0
module_fork_last_cow_size:0
aof_current_size:246
aof_base_size:0
aof_pending_rewrite:0
aof_buffer_length:0
aof_pending_bio_fsync:0
aof_delayed_fsync:0

# Stats
total_connections_received:3
total_commands_processed:12
instantaneous_ops_per_sec:6
total_net_input_bytes:316
total_net_output_bytes:344665
total_net_repl_input_bytes:0
total_net_repl_output_bytes:0
instantaneous_input_kbps:0.16
instantaneous_output_kbps:103.14
instantaneous_input_repl_kbps:0.00
instantaneous_output_repl_kbps:0.00
rejected_connections:0
sync_full:0
sync_partial_ok:0
sync_partial_err:0
expired_keys:0
expired_stale_perc:0.00
expired_time_cap_reached_count:0
expire_cycle_cpu_milliseconds:0
evicted_keys:0
evicted_clients:0
total_eviction_exceeded_time:0
current_eviction_exceeded_time:0
keyspace_hits:0
keyspace_misses:0
pubsub_channels:0
pubsub_patterns:0
pubsubshard_channels:0
latest_fork_usec:0
total_forks:0
migrate_cached_sockets:0
slave_expires_tracked_keys:0
active_defrag_hits:0
active_defrag_misses:0
active_defrag_key_hits:0
active_defrag_key_misses:0
total_active_defrag_time:0
current_active_defrag_time:0
tracking_total_keys:0
tracking_total_items:0
tracking_total_prefixes:0
unexpected_error_replies:0
total_error_replies:0
dump_payload_sanitizations:0
total_reads_processed:15
total_writes_processed:16
io_threaded_reads_processed:0
io_threaded_writes_processed:0
reply_buffer_shrinks:0
reply_buffer_expands:0

# Replication
role:master
connected_slaves:0
master_failover_state:no-failover
master_replid:72b8bc0a90b9be956498dea5bba21ed3190a12b5
master_replid2:0000000000000000000000000000000000000000
master_repl_offset:0
second_repl_offset:-1
repl_backlog_active:0
repl_backlog_size:1048576
repl_backlog_first_byte_offset:0
repl_backlog_histlen:0

# Cluster
cluster_enabled:0

# Keyspace
db0:keys=4,expires=1,avg_ttl=9998948
db3:keys=1,expires=0,avg_ttl=0
"""

MODULES = """\
1) 1) "name"
   2) "vectorset"
   3) "ver"
   4) (integer) 1
   5) "path"
   6) ""
   7) "args"
   8) (empty array)"""

RDB_OF_7 = base64.b64decode(
    "UkVESVMwMDEw+glyZWRpcy12ZXIGNy4wLjE1+gpyZWRpcy1iaXRzwED6BWN0aW1lwn39Amv6CHVzZWQtbWVtwqA/EwD6CGFvZi1i"
    "YXNlwAD+APsEAQABZMAC/AXDRgSiAQAAAAFiwAEAAWEHeA0KInnDvAABY8AB/gP7AQAAAWXAAf9PPOUnraW/Vw=="
)

RDB_OF_8 = base64.b64decode(
    "UkVESVMwMDEy+glyZWRpcy12ZXIFOC4wLjL6CnJlZGlzLWJpdHPAQPoFY3RpbWXCf/0Ca/oIdXNlZC1tZW3CSNMPAPoIYW9mLWJh"
    "c2XAAP4A+wQBAAFjwAEAAWEHeA0KInnDvAABZMAC/JbJRgSiAQAAAAFiwAH+A/sBAAABZcAB/wweX/gP9DOo"
)

INCREMENTAL = base64.b64decode(
    "KjINCiQ2DQpTRUxFQ1QNCiQxDQowDQoqMw0KJDMNClNFVA0KJDENCmENCiQ3DQp4DQoiecO8DQoqNQ0KJDMNClNFVA0KJDENCmIN"
    "CiQxDQoxDQokNA0KUFhBVA0KJDEzDQoxNzk1MzY4MDc2MDM3DQoqMQ0KJDUNCk1VTFRJDQoqMw0KJDMNClNFVA0KJDENCmMNCiQx"
    "DQoxDQoqMw0KJDMNClNFVA0KJDENCmQNCiQxDQoyDQoqMQ0KJDQNCkVYRUMNCioyDQokNg0KU0VMRUNUDQokMQ0KMw0KKjMNCiQz"
    "DQpTRVQNCiQxDQplDQokMQ0KMQ0K"
)

MANIFEST_OF_7 = """\
file appendonly.aof.1.base.rdb seq 1 type b
file appendonly.aof.1.incr.aof seq 1 type i
"""

MANIFEST_OF_8 = """\
file appendonly.aof.1.base.rdb seq 1 type b
file appendonly.aof.1.incr.aof seq 1 type i startoffset 0
"""
