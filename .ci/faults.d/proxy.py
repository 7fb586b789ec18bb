"""A TCP proxy that does to connections what bad networks do."""

import asyncio
import socket
import struct
import threading

# From the agent to the gateway, and back.
UP, DOWN = "up", "down"
BOTH = (UP, DOWN)
BLOCK = 16 << 10
# A delayed direction holds at most this much.
DELAYED_MAX = 4 << 20


class Proxy:
    """Forwards from a free port of 127.0.0.1 to `target`. Every method may be called from any thread.

    Faults of a direction hold for all connections, those that come later as well, until `clear`. Data is counted in
    `carried`, connections in `accepted`.
    """

    def __init__(self, target, buffer=None):
        """`buffer` bounds the socket buffers, so that a slow proxy queues no more than a slow link would."""
        self.target = target
        self.carried = dict.fromkeys(BOTH, 0)
        self.accepted = 0
        self._buffer = buffer
        self._rules = {direction: Rules() for direction in BOTH}
        self._connections, self._serving = set(), set()
        self._loop = asyncio.new_event_loop()
        self._listener = _socket(buffer)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = None
        self.listen()

    def listen(self):
        """Takes connections; as it does from the start."""
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._server = self._do(self._accept)

    def delay(self, seconds, directions=BOTH):
        """Everything arrives that much later."""
        self._change(directions, delay=seconds)

    def rate(self, bytes_per_second, directions=BOTH):
        """Nothing arrives faster than that, per connection."""
        self._change(directions, rate=bytes_per_second)

    def stall(self, directions=BOTH):
        """Nothing moves; nothing is lost either. New connections are taken and stand still, too."""
        self._change(directions, stalled=True)

    def black_hole(self, directions=BOTH):
        """What is sent is taken and thrown away, without an end of the connection."""
        self._change(directions, swallowing=True)

    def clear(self):
        """Forgets all faults; what stalled goes on. Connections that lost bytes stay as broken as they are."""
        self._change(BOTH, delay=0.0, rate=None, stalled=False, swallowing=False, corrupt=0)

    def corrupt(self, directions=(UP,), blocks=1):
        """Inverts a bit in each of the next blocks of data."""
        self._change(directions, corrupt=blocks)

    def reset(self):
        """Ends every connection by RST at both ends; returns how many there were."""
        return self._do(self._reset)

    def half_close(self, directions=(UP,)):
        """Sends the end of the stream (FIN) in these directions, whatever the sender does; the others go on."""
        self._do(lambda: [connection.finish(direction) for connection in self._connections for direction in directions])

    def connections(self):
        """How many connections there are now."""
        return self._do(lambda: len(self._connections))

    def stop(self):
        """Ends everything."""

        async def end():
            self._server.cancel()
            self._reset()
            await asyncio.gather(*self._serving, return_exceptions=True)
            self._listener.close()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _change(self, directions, **rules):
        def change():
            for direction in directions:
                self._rules[direction].change(rules)

        self._do(change)

    def _do(self, function):
        """Calls `function` on the proxy's own thread, and returns what it returns."""

        async def call():
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    def _accept(self):
        return self._loop.create_task(self._accept_for_ever())

    async def _accept_for_ever(self):
        while True:
            near, _ = await self._loop.sock_accept(self._listener)
            self.accepted += 1
            task = self._loop.create_task(self._serve(near))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, near):
        far = _socket(self._buffer)
        far.setblocking(False)
        try:
            await self._loop.sock_connect(far, self.target)
        except OSError:
            _abort(near)
            near.close()
            far.close()
            return
        connection = Connection(near, far)
        self._connections.add(connection)
        try:
            await connection.pump(self._rules, self.carried)
        finally:
            self._connections.discard(connection)

    def _reset(self):
        connections = list(self._connections)
        for connection in connections:
            connection.reset()
        return len(connections)


class Rules:
    """What happens to one direction."""

    def __init__(self):
        self.delay, self.rate, self.stalled, self.swallowing, self.corrupt = 0.0, None, False, False, 0
        self._changed = asyncio.Event()

    def change(self, rules):
        for name, value in rules.items():
            setattr(self, name, value)
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_until_moving(self):
        while self.stalled:
            await self._changed.wait()

    def damage(self, data):
        if not self.corrupt or len(data) < 2:
            return data
        self.corrupt -= 1
        place = len(data) // 2
        return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


class Connection:
    """Two sockets and the pumps between them."""

    def __init__(self, near, far):
        self._ends = {UP: (near, far), DOWN: (far, near)}
        self._tasks = []
        self._finished = set()
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def pump(self, rules, carried):
        """Moves bytes until their end, in each direction with a task that reads and one that writes; then closes."""
        for direction in BOTH:
            queue, room = asyncio.Queue(), asyncio.Semaphore(DELAYED_MAX // BLOCK)
            self._tasks += [
                asyncio.ensure_future(self._read(direction, rules[direction], queue, room)),
                asyncio.ensure_future(self._write(direction, rules[direction], queue, room, carried)),
            ]
        _, left = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in left:
            task.cancel()
        # Before the sockets are closed: what waits for a descriptor must not meet the next one of its number.
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for end in self._ends[UP]:
            if any(results):
                _abort(end)
            end.close()

    async def _read(self, direction, rules, queue, room):
        loop, (source, _) = asyncio.get_running_loop(), self._ends[direction]
        while True:
            await rules.wait_until_moving()
            # Only what may be delayed is read ahead.
            await room.acquire()
            data = await loop.sock_recv(source, BLOCK)
            queue.put_nowait((loop.time() + rules.delay, data))
            if not data:
                return

    async def _write(self, direction, rules, queue, room, carried):
        loop, (_, sink) = asyncio.get_running_loop(), self._ends[direction]
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            await rules.wait_until_moving()
            room.release()
            if not data:
                return self.finish(direction)
            if rules.swallowing or direction in self._finished:
                continue
            data = rules.damage(data)
            await _send(sink, data, rules)
            carried[direction] += len(data)

    def finish(self, direction):
        """Sends the end of one direction, once."""
        if direction not in self._finished:
            self._finished.add(direction)
            self._ends[direction][1].shutdown(socket.SHUT_WR)

    def reset(self):
        """Ends both sides by RST."""
        for task in self._tasks:
            task.cancel()


async def _send(sink, data, rules):
    loop = asyncio.get_running_loop()
    while data:
        piece = data if rules.rate is None else data[: max(256, int(rules.rate * 0.02))]
        await loop.sock_sendall(sink, piece)
        data = data[len(piece) :]
        if rules.rate is not None:
            await asyncio.sleep(len(piece) / rules.rate)


def _socket(buffer):
    made = socket.socket()
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF) if buffer else ():
        made.setsockopt(socket.SOL_SOCKET, option, buffer)
    return made


def _abort(end):
    """Makes the coming close a RST."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
