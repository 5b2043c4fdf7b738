# Joins cards to vpcd, which listens on every address, and therefore runs in a network namespace of its own: each connection to
# a Unix socket (which has no such borders) is passed on to one of vpcd's ports. Arguments: the folder, the first port, how many.
import os, socket, sys, threading

folder, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(listener, port):
    while True:
        card, _ = listener.accept()
        reader = socket.create_connection(("127.0.0.1", port))
        reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=pump, args=(card, reader), daemon=True).start()
        threading.Thread(target=pump, args=(reader, card), daemon=True).start()


for i in range(count):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.join(folder, f"reader{i}"))
    listener.listen()
    threading.Thread(target=serve, args=(listener, first + i), daemon=True).start()
threading.Event().wait()
