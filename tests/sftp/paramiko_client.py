"""paramiko: pipelined uploads, prefetched downloads, two channels, append, exclusive creation."""

import sys

import paramiko

port, name, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect("127.0.0.1", port, name, password, look_for_keys=False, allow_agent=False, timeout=20)
sftp, other = client.open_sftp(), client.open_sftp()
with open("data.bin", "rb") as file:
    data = file.read()
sftp.put("data.bin", "paramiko.bin")
other.get("paramiko.bin", "paramiko.back")
with open("paramiko.back", "rb") as file:
    assert file.read() == data
with sftp.open("log", "a") as file:
    file.write("one ")
with other.open("log", "a") as file:
    file.write("two")
with sftp.open("log") as file:
    assert file.read() == b"one two"
try:
    sftp.open("log", "x")
    raise SystemExit("a file that exists was created")
except OSError:
    pass
assert sftp.stat("paramiko.bin").st_size == len(data)
sftp.symlink("log", "link")
assert sftp.readlink("link") == "log" and sftp.lstat("link").st_mode != sftp.stat("link").st_mode
sftp.utime("log", (1000, 2000))
assert sftp.stat("log").st_mtime == 2000
# Requests without an end to the answers: the connection must go on.
with sftp.open("paramiko.bin") as file:
    chunks = [(position, 1024) for position in range(0, len(data), 1024)] * 20
    assert b"".join(file.readv(chunks))[: len(data)] == data
client.close()
