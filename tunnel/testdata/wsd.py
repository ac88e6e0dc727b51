#!/usr/bin/env python3
"""A WebSocket echo server that wants a password, and its client.

wsd.py serve USER PASSWORD prints its port and ends with its standard input.
wsd.py talk URL sends a hundred messages and checks what comes back.
"""
import asyncio
import sys
import threading

import websockets


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def serve(user, password):
    gate = websockets.basic_auth_protocol_factory(realm="camera", credentials=(user, password))
    async with websockets.serve(echo, "127.0.0.1", 0, create_protocol=gate) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        done = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(done.set_result, None)), daemon=True).start()
        await done


async def talk(url):
    async with websockets.connect(url) as socket:
        for i in range(100):
            message = ("%d " % i) * (i + 1) * (100 if i % 10 == 0 else 1)
            await socket.send(message)
            assert await socket.recv() == message
    print("echoed")


if sys.argv[1] == "serve":
    asyncio.run(serve(*sys.argv[2:]))
else:
    asyncio.run(talk(sys.argv[2]))
