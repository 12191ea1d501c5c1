// Reverse.java server|client PORT ...: see README.md of this folder.
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.Iterator;

public class Reverse {
    static final int[] SIZES = {1, 10, 100, 1000, 10000, 100000};
    static final int LARGEST = 100004;

    static void reverse(byte[] b, int from, int n) {
        for (int i = from, j = from + n - 1; i < j; i++, j--) {
            byte t = b[i];
            b[i] = b[j];
            b[j] = t;
        }
    }

    static void serveOne(Socket s) {
        try (s) {
            var in = new DataInputStream(s.getInputStream());
            var out = new DataOutputStream(s.getOutputStream());
            for (;;) {
                int n = in.readInt();
                byte[] all = new byte[n + 4];
                in.readFully(all, 4, n);
                reverse(all, 4, n);
                ByteBuffer.wrap(all).putInt(n);
                out.write(all);
            }
        } catch (EOFException e) {
            // the client is done
        } catch (IOException e) {
            System.err.println(e);
        }
    }

    static void serveBlocking(int port) throws Exception {
        var listener = new ServerSocket(port, 50, InetAddress.getByName("127.0.0.1"));
        for (;;) {
            Socket s = listener.accept();
            new Thread(() -> serveOne(s)).start();
        }
    }

    static class State {
        ByteBuffer in = ByteBuffer.allocateDirect(LARGEST);
        ByteBuffer out = null;
    }

    // False: the connection is over.
    static boolean turn(SelectionKey key) throws IOException {
        var channel = (SocketChannel) key.channel();
        var s = (State) key.attachment();
        for (;;) {
            if (s.out != null) {
                channel.write(s.out);
                if (s.out.hasRemaining()) {
                    key.interestOps(SelectionKey.OP_WRITE);
                    return true;
                }
                s.out = null;
                key.interestOps(SelectionKey.OP_READ);
            }
            if (s.in.position() >= 4 && s.in.position() >= 4 + s.in.getInt(0)) {
                int n = s.in.getInt(0);
                byte[] all = new byte[n + 4];
                s.in.flip();
                s.in.get(all);
                s.in.compact();
                reverse(all, 4, n);
                s.out = ByteBuffer.wrap(all);
                continue;
            }
            int got = channel.read(s.in);
            if (got < 0)
                return false;
            if (got == 0)
                return true;
        }
    }

    static void serveNio(int port) throws Exception {
        var listener = ServerSocketChannel.open();
        var selector = Selector.open();
        listener.bind(new InetSocketAddress("127.0.0.1", port));
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        for (;;) {
            selector.select();
            Iterator<SelectionKey> keys = selector.selectedKeys().iterator();
            while (keys.hasNext()) {
                SelectionKey key = keys.next();
                keys.remove();
                if (key.isAcceptable()) {
                    SocketChannel c = listener.accept();
                    c.configureBlocking(false);
                    c.register(selector, SelectionKey.OP_READ, new State());
                } else if (!turn(key)) {
                    key.channel().close();
                }
            }
        }
    }

    static byte[] askOne(int port, byte[] blob, int rounds, boolean channel)
            throws Exception {
        var digest = MessageDigest.getInstance("SHA-256");
        var address = new InetSocketAddress("127.0.0.1", port);
        Socket s = channel ? SocketChannel.open(address).socket() : new Socket();
        if (!channel)
            s.connect(address);
        s.setSoTimeout(30000);
        var in = new DataInputStream(s.getInputStream());
        var out = s.getOutputStream();
        for (int i = 0; i < rounds; i++) {
            int n = SIZES[i % SIZES.length];
            ByteBuffer all = ByteBuffer.allocate(n + 4);
            all.putInt(n).put(blob, i * 37 % 5000, n);
            out.write(all.array());
            byte[] answer = new byte[in.readInt()];
            in.readFully(answer);
            digest.update(answer);
        }
        s.close();
        return digest.digest();
    }

    static void ask(int port, String file, int connections, int rounds,
            boolean channel) throws Exception {
        byte[] blob = Files.readAllBytes(Path.of(file));
        String[] sums = new String[connections];
        Thread[] threads = new Thread[connections];
        for (int k = 0; k < connections; k++) {
            int at = k;
            threads[k] = new Thread(() -> {
                try {
                    var hex = new StringBuilder();
                    for (byte b : askOne(port, blob, rounds, channel))
                        hex.append(String.format("%02x", b));
                    sums[at] = hex.toString();
                } catch (Exception e) {
                    sums[at] = e.toString();
                }
            });
            threads[k].start();
        }
        for (int k = 0; k < connections; k++) {
            threads[k].join();
            System.out.println(k + " " + rounds + " " + sums[k]);
        }
    }

    public static void main(String[] a) throws Exception {
        int port = Integer.parseInt(a[1]);
        if (a[0].equals("client"))
            ask(port, a[2], Integer.parseInt(a[3]), Integer.parseInt(a[4]),
                a[5].equals("nio"));
        else if (a[2].equals("nio"))
            serveNio(port);
        else
            serveBlocking(port);
    }
}
