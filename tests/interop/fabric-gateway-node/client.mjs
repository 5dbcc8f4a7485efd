// Uses a Gateway with the official client and writes what it saw as one JSON object.
// node client.mjs ADDRESS CHANNEL CONTRACT MSP CERTIFICATE KEY START ENDORSERS [ROOTS TLS-KEY TLS-CERTIFICATE]
import * as grpc from '@grpc/grpc-js';
import { connect, hash, signers, checkpointers } from '@hyperledger/fabric-gateway';
import { common } from '@hyperledger/fabric-protos';
import * as crypto from 'node:crypto';
import { readFileSync } from 'node:fs';

const [address, channelName, contractName, mspId, certificate, keyFile, start, endorsers, roots, tlsKey, tlsCertificate] = process.argv.slice(2);
const credentials = roots
    ? grpc.credentials.createSsl(readFileSync(roots), readFileSync(tlsKey), readFileSync(tlsCertificate))
    : grpc.credentials.createInsecure();
const tlsClientCertificateHash = tlsCertificate && hash.sha256(new crypto.X509Certificate(readFileSync(tlsCertificate)).raw);
const client = new grpc.Client(address, credentials);
const sign = signers.newPrivateKeySigner(crypto.createPrivateKey(readFileSync(keyFile)));
const identity = { mspId, credentials: readFileSync(certificate) };
const within = (ms) => () => ({ deadline: Date.now() + ms });
const gateway = connect({
    client, identity, signer: sign, hash: hash.sha256, tlsClientCertificateHash,
    evaluateOptions: within(30000), endorseOptions: within(30000), submitOptions: within(30000), commitStatusOptions: within(30000),
});
const network = gateway.getNetwork(channelName);
const contract = network.getContract(contractName);
const text = (bytes) => Buffer.from(bytes).toString();
const seen = {};

const failing = async (work) => {
    try { await work(); return { name: 'nothing failed' }; }
    catch (error) {
        return { name: error.name, code: error.code, transactionId: error.transactionId, details: error.details };
    }
};

try {
    seen.submitted = text(await contract.submitTransaction('put', 'k', 'v'));
    seen.evaluated = text(await contract.evaluateTransaction('get', 'k'));

    const transientData = { secret: Buffer.from('nobody\'s business') };
    seen.secret = text(await contract.submit('secret', { transientData }));
    seen.named = text(await contract.submit('put', { arguments: ['n', 'w'], endorsingOrganizations: endorsers.split(',') }));

    // Signed elsewhere, step by step.
    const offline = connect({ client, identity, hash: hash.sha256 });
    const unsigned = offline.getNetwork(channelName).getContract(contractName).newProposal('put', { arguments: ['o', 'x'] });
    const proposal = offline.newSignedProposal(unsigned.getBytes(), await sign(unsigned.getDigest()));
    const prepared = await proposal.endorse();
    const transaction = offline.newSignedTransaction(prepared.getBytes(), await sign(prepared.getDigest()));
    const unsignedCommit = await transaction.submit();
    const commit = offline.newSignedCommit(unsignedCommit.getBytes(), await sign(unsignedCommit.getDigest()));
    seen.offline = await commit.getStatus();
    seen.sameId = commit.getTransactionId() === unsigned.getTransactionId();

    seen.again = await failing(() => transaction.submit());
    seen.offlineAgain = await commit.getStatus();

    seen.endorseRefused = await failing(() => contract.submitTransaction('refuse'));
    seen.evaluateRefused = await failing(() => contract.evaluateTransaction('refuse'));
    seen.nobody = await failing(() => contract.submit('put', { arguments: ['n', 'w'], endorsingOrganizations: ['Org9MSP'] }));

    const rivals = [1, 2].map(() => contract.newProposal('put', { arguments: ['r', 'y'] }));
    const endorsed = [];
    for (const rival of rivals) endorsed.push(await rival.endorse());
    seen.rivals = [];
    for (const rival of endorsed) seen.rivals.push((await (await rival.submit()).getStatus()).code);

    const blocks = await network.getBlockEvents({ startBlock: BigInt(start) });
    seen.blocks = [];
    for await (const block of blocks) {
        const codes = block.getMetadata().getMetadataList_asU8()[common.BlockMetadataIndex.TRANSACTIONS_FILTER];
        seen.blocks.push([Number(block.getHeader().getNumber()), Array.from(codes)]);
        if (block.getHeader().getNumber() >= Number(seen.offline.blockNumber)) break;
    }
    blocks.close();

    // Behind a checkpoint in the middle.
    const checkpointer = checkpointers.inMemory();
    for (const turn of ['first', 'second']) {
        const events = await network.getChaincodeEvents(contractName, { startBlock: BigInt(start), checkpoint: checkpointer });
        seen[turn] = [];
        for await (const event of events) {
            seen[turn].push([Number(event.blockNumber), event.eventName, text(event.payload)]);
            await checkpointer.checkpointChaincodeEvent(event);
            if (seen[turn].length === 2) break;
        }
        events.close();
    }

    const strangerKey = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const stranger = connect({ client, identity, signer: signers.newPrivateKeySigner(strangerKey), hash: hash.sha256 });
    const theirs = stranger.getNetwork(channelName);
    seen.stranger = await failing(() => theirs.getContract(contractName).submitTransaction('put', 's', 's'));
    seen.strangerStatus = await failing(() => stranger.newSignedCommit(unsignedCommit.getBytes(), Buffer.from('00')).getStatus());
} finally {
    gateway.close();
    client.close();
}
console.log(JSON.stringify(seen, (_, value) => (typeof value === 'bigint' ? Number(value) : value)));
