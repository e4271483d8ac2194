"""asyncssh: parallel requests, extensions, errors."""

import asyncio
import sys

import asyncssh

port, name, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]


async def main():
    options = dict(port=port, username=name, password=password, known_hosts=None, client_keys=None)
    async with asyncssh.connect("127.0.0.1", **options) as connection:
        async with connection.start_sftp_client() as sftp:
            await sftp.put("data.bin", "asyncssh.bin", preserve=True)
            await sftp.get("asyncssh.bin", "asyncssh.back")
            with open("data.bin", "rb") as one, open("asyncssh.back", "rb") as other:
                assert one.read() == other.read()
            await sftp.makedirs("x/y/z")
            await sftp.posix_rename("x/y/z", "x/w")
            assert sorted(await sftp.listdir("x")) in (["w", "y"], [".", "..", "w", "y"])
            found = await sftp.statvfs("/")
            assert found.blocks > 0
            await sftp.link("asyncssh.bin", "asyncssh.hard")
            assert (await sftp.stat("asyncssh.hard")).size == (await sftp.stat("asyncssh.bin")).size
            names = await asyncio.gather(*(sftp.realpath(f"a/../{number}") for number in range(200)))
            assert names == [f"/{number}" for number in range(200)]
            try:
                await sftp.stat("missing")
                raise SystemExit("a missing file was found")
            except asyncssh.SFTPNoSuchFile:
                pass
            await sftp.rmtree("x")


asyncio.run(main())
