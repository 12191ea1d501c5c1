# reverse.rb server|client PORT ...: see README.md of this folder.
require "socket"
require "digest/sha2"

SIZES = [1, 10, 100, 1000, 10_000, 100_000].freeze

def serve_one(s)
  while (head = s.read(4)) && head.size == 4
    n = head.unpack1("N")
    s.write(head, s.read(n).reverse)
  end
  s.close
end

def serve(port, mode)
  Signal.trap("TERM") { exit(0) }
  listener = TCPServer.new("127.0.0.1", port)
  loop do
    s = listener.accept
    if mode == "fork"
      Process.detach(fork { serve_one(s) })
      s.close
    else
      Thread.new { serve_one(s) }
    end
  end
end

def ask(port, file, connections, rounds)
  blob = File.binread(file)
  threads = Array.new(connections) do
    Thread.new do
      digest = Digest::SHA256.new
      s = TCPSocket.new("127.0.0.1", port)
      rounds.times do |i|
        data = blob.byteslice(i * 37 % 5000, SIZES[i % SIZES.size])
        s.write([data.bytesize].pack("N") + data)
        digest << s.read(s.read(4).unpack1("N"))
      end
      s.close
      digest.hexdigest
    end
  end
  threads.each_with_index { |t, k| puts "#{k} #{rounds} #{t.value}" }
end

if ARGV[0] == "server"
  serve(ARGV[1].to_i, ARGV[2])
else
  ask(ARGV[1].to_i, ARGV[2], ARGV[3].to_i, ARGV[4].to_i)
end
