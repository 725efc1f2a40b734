// SPDX-License-Identifier: Apache-2.0
import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.SocketChannel;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.handler.codec.http.*;
import java.nio.file.Files;
import java.nio.file.Path;

/** An HTTP server of Netty's. */
public class Netty {
	public static void main(String[] args) throws Exception {
		byte[] body = Files.readAllBytes(Path.of(System.getenv("DIR"), "body"));
		var loop = new NioEventLoopGroup(2);
		new ServerBootstrap().group(loop).channel(NioServerSocketChannel.class)
				.childHandler(new ChannelInitializer<SocketChannel>() {
					@Override
					protected void initChannel(SocketChannel c) {
						c.pipeline().addLast(new HttpServerCodec(), new HttpObjectAggregator(1 << 20),
								new SimpleChannelInboundHandler<FullHttpRequest>() {
									@Override
									protected void channelRead0(ChannelHandlerContext to, FullHttpRequest request) {
										var answer = new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, HttpResponseStatus.OK,
												Unpooled.wrappedBuffer(body));
										answer.headers().set("Content-Length", body.length);
										to.writeAndFlush(answer);
									}
								});
					}
				}).bind(Integer.parseInt(System.getenv("PORT"))).sync().channel().closeFuture().sync();
	}
}
