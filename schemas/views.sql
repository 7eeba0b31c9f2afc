-- What a data set looks like in SQL. The files are those of schemas/window.py: committed ones only, read-only.
-- `run` is the folder run=... of a file: taking run_id from there lets a query on one run skip the files of others.
-- run_records, model_records and round_records are tables that schemas/catalog.py fills from the JSON records.

-- Each image once, although it may lie at several places or have been ingested twice: `uri` is the first of its places
-- in the order of the alphabet, `uris` all of them. Columns that follow from the bytes are the same in all rows; of
-- licence and metadata the first place that states any is shown, and of what was said of one place the newest. Metadata
-- that are no JSON, as once were written where a secret stood in quotes, count as none; `sam-engine ingest`
-- of the same source writes them anew.
CREATE VIEW images AS
SELECT
    image_id,
    min(uri) AS uri,
    list(DISTINCT uri ORDER BY uri) AS uris,
    any_value(content_sha256) AS content_sha256,
    any_value(bytes) AS bytes,
    any_value(format) AS format,
    any_value(height) AS height,
    any_value(width) AS width,
    any_value(exif_orientation) AS exif_orientation,
    arg_min(licence, {place: uri, age: -epoch_us(ingested_at)}) AS licence,
    arg_min(TRY_CAST(metadata AS JSON), {place: uri, age: -epoch_us(ingested_at)}) AS metadata,
    min(ingested_at) AS ingested_at
FROM read_parquet('dataset://images/*.parquet')
GROUP BY image_id;

-- Images that nobody has read yet, so that their size is unknown: their source states the content hash, which is their
-- stamp, and no part that came later says more.
CREATE VIEW unread_images AS
SELECT image_id, min(uri) AS uri, any_value(content_sha256) AS content_sha256
FROM read_parquet('dataset://images/*.parquet')
GROUP BY image_id
HAVING count(height) = 0 AND bool_and(coalesce(stamp = content_sha256, false));

-- What each place of an image says of its licence, the newest word of each. An image may be used under a licence where
-- none of its places says otherwise.
CREATE VIEW image_licences AS
SELECT image_id, uri, arg_max(licence, ingested_at) AS licence
FROM read_parquet('dataset://images/*.parquet')
WHERE licence IS NOT NULL
GROUP BY image_id, uri;

CREATE MACRO masks_in(files) AS TABLE
    SELECT * EXCLUDE (run) REPLACE (run AS run_id)
    FROM read_parquet(files, hive_partitioning = true, hive_types_autocast = false);

CREATE VIEW masks AS FROM masks_in('dataset://masks/*.parquet');

CREATE VIEW outcomes AS
SELECT
    * EXCLUDE (run) REPLACE (run AS run_id),
    seconds_read + seconds_decode_image + seconds_encode + seconds_decode
    + seconds_select + seconds_nms + seconds_regions + seconds_rle AS seconds
FROM read_parquet('dataset://outcomes/*.parquet', hive_partitioning = true, hive_types_autocast = false);

-- How the masks of each image lie in one another, where `sam-engine relate` has looked.
CREATE MACRO relations_in(files) AS TABLE
    SELECT * EXCLUDE (run) REPLACE (run AS run_id)
    FROM read_parquet(files, hive_partitioning = true, hive_types_autocast = false);

CREATE VIEW relations AS FROM relations_in('dataset://relations/*.parquet');

-- Masks with what is above and below them; masks that nobody has related yet are not here.
CREATE VIEW mask_tree AS
SELECT masks.*, relations.* EXCLUDE (mask_id, image_id, run_id, containment, duplicate_threshold)
FROM masks JOIN relations
    ON relations.run_id = masks.run_id AND relations.image_id = masks.image_id AND relations.mask_id = masks.mask_id;

-- Masks without those that repeat a better one.
CREATE VIEW distinct_masks AS
FROM masks ANTI JOIN (SELECT run_id, mask_id FROM relations WHERE duplicate_of IS NOT NULL) AS copies
    ON copies.run_id = masks.run_id AND copies.mask_id = masks.mask_id;

-- Words that name masks, the nearest first, where `sam-engine tag` has looked.
CREATE VIEW tags AS
SELECT * EXCLUDE (run) REPLACE (run AS run_id)
FROM read_parquet('dataset://tags/*.parquet', hive_partitioning = true, hive_types_autocast = false);

-- All masks, each with its nearest word; null where nobody has looked.
CREATE VIEW tagged_masks AS
SELECT masks.*, tags.word AS tag, tags.score AS tag_score, tags.share AS tag_share
FROM masks LEFT JOIN tags
    ON tags.run_id = masks.run_id AND tags.image_id = masks.image_id AND tags.mask_id = masks.mask_id
    AND tags.rank = 1;

-- Every saved state of every human mask: what the work was, where `annotations` says what came of it.
CREATE MACRO revisions_in(files) AS TABLE FROM read_parquet(files, hive_partitioning = false);

CREATE VIEW annotation_revisions AS FROM revisions_in('dataset://annotations/masks/*.parquet');

-- Human masks as they stand: the latest revision of each, unless that one deleted it. A mask stays with its image, which
-- is named first: so what is asked of some images is asked before revisions are compared.
CREATE MACRO annotations_in(files) AS TABLE
    SELECT * EXCLUDE (deleted)
    FROM (
        FROM revisions_in(files)
        QUALIFY row_number() OVER (
            PARTITION BY image_id, mask_id ORDER BY revision DESC, created_at DESC, session DESC
        ) = 1
    )
    WHERE NOT deleted;

CREATE VIEW annotations AS FROM annotations_in('dataset://annotations/masks/*.parquet');

-- Crops of masks that a CLIP has embedded for text prompts (`sam-engine crops`), each once although two jobs may have
-- written it; the same rows both times.
CREATE VIEW crops AS
FROM read_parquet('dataset://crops/*.parquet', hive_partitioning = false)
QUALIFY row_number() OVER (PARTITION BY clip_sha256, mask_id, revision, draw) = 1;

CREATE MACRO events_in(files) AS TABLE FROM read_parquet(files, hive_partitioning = false);

CREATE VIEW events AS FROM events_in('dataset://annotations/events/*.parquet');

-- The work of each annotator by stage, round and model. A mask is worked on when it was clicked or brushed; one accepted
-- as proposed counts for masks_per_image, not for seconds_per_mask. `brushed` is how many pixels brush or eraser changed
-- for each pixel of the masks as they stand, so above 1 where more was erased or redrawn than stayed; `reminded` is the
-- share of masks that took longer than the app thinks they should.
CREATE VIEW annotation_work AS
WITH work AS (
    SELECT
        annotator, stage, coalesce(round, -1) AS round, coalesce(model_id, '') AS model_id,
        count(DISTINCT mask_id) FILTER (clicks > 0 OR brushed > 0) AS worked_on,
        sum(seconds) FILTER (clicks > 0 OR brushed > 0) AS seconds, sum(clicks) AS clicks, sum(brushed) AS brushed
    FROM annotation_revisions
    GROUP BY ALL
),
standing AS (
    SELECT
        annotator, stage, coalesce(round, -1) AS round, coalesce(model_id, '') AS model_id,
        count(*) AS masks, count(DISTINCT image_id) AS images, sum(area) AS area
    FROM annotations
    GROUP BY ALL
),
reminders AS (
    SELECT annotator, stage, coalesce(round, -1) AS round, count(*) AS reminders
    FROM events WHERE action = 'reminder'
    GROUP BY ALL
)
SELECT
    annotator, stage, nullif(round, -1) AS round, nullif(model_id, '') AS model_id,
    coalesce(images, 0) AS images,
    coalesce(masks, 0) AS masks,
    round(masks / nullif(images, 0), 1) AS masks_per_image,
    worked_on,
    round(seconds / nullif(worked_on, 0), 1) AS seconds_per_mask,
    round(clicks / nullif(worked_on, 0), 1) AS clicks_per_mask,
    round(brushed / nullif(area, 0), 3) AS brushed,
    round(coalesce(reminders, 0) / nullif(sum(worked_on) OVER (PARTITION BY annotator, stage, round), 0), 3) AS reminded
FROM work
LEFT JOIN standing USING (annotator, stage, round, model_id)
LEFT JOIN reminders USING (annotator, stage, round)
ORDER BY round NULLS FIRST, stage, annotator, model_id;

CREATE VIEW runs AS
SELECT * REPLACE (recipe::JSON AS recipe, config::JSON AS config, versions::JSON AS versions)
FROM run_records;

CREATE VIEW models AS
SELECT * REPLACE (training::JSON AS training, metrics::JSON AS metrics)
FROM model_records;

CREATE VIEW rounds AS
SELECT * REPLACE (metrics::JSON AS metrics, details::JSON AS details)
FROM round_records;

-- One line per engine round. `masks` stand on the images that the round's annotators finished, those of other rounds and
-- prefilled ones included; seconds and clicks are of masks that were worked on. `held_out_miou` is that of one click on
-- images nobody annotates, by the round's new model; `base_miou` the same by the model that it began with. `cost` is in
-- the currency of the engine's prices, null without prices.
CREATE VIEW round_summary AS
SELECT
    number AS round,
    stage,
    state,
    model_before,
    model_after,
    promoted,
    reason,
    (metrics ->> 'images')::INT AS images,
    (metrics ->> 'masks')::INT AS masks,
    (metrics ->> 'masks_per_image')::DOUBLE AS masks_per_image,
    (metrics ->> 'clicks_per_mask')::DOUBLE AS clicks_per_mask,
    (metrics ->> 'seconds_per_mask')::DOUBLE AS seconds_per_mask,
    (metrics ->> 'base_miou')::DOUBLE AS base_miou,
    (metrics ->> 'held_out_miou')::DOUBLE AS held_out_miou,
    (metrics ->> 'base_clicks_to_090')::DOUBLE AS base_clicks_to_090,
    (metrics ->> 'clicks_to_090')::DOUBLE AS clicks_to_090,
    (metrics ->> 'held_out_masks_per_image')::DOUBLE AS held_out_masks_per_image,
    (metrics ->> 'average_recall')::DOUBLE AS average_recall,
    (metrics ->> 'prefill_precision')::DOUBLE AS prefill_precision,
    (metrics ->> 'prefill_recall')::DOUBLE AS prefill_recall,
    (metrics ->> 'human_hours')::DOUBLE AS human_hours,
    (metrics ->> 'machine_hours')::DOUBLE AS machine_hours,
    (metrics ->> 'cost')::DOUBLE AS cost,
    started_at,
    finished_at
FROM rounds
ORDER BY number;

-- The images that an engine round's annotators work on, in order.
CREATE VIEW round_queue AS
SELECT number AS round, unnest(queue) AS image_id, generate_subscripts(queue, 1) AS place
FROM (SELECT number, (details -> '$.stage.queue')::VARCHAR[] AS queue FROM rounds)
ORDER BY round, place;

-- Which data a round's model was trained on: a frozen file, its hash, and what is in it.
CREATE VIEW round_data AS
SELECT
    number AS round,
    details ->> '$.snapshot.key' AS key,
    details ->> '$.snapshot.sha256' AS sha256,
    (details ->> '$.snapshot.images')::INT AS images,
    (details ->> '$.snapshot.masks')::INT AS masks,
    details ->> '$.train.run_id' AS training_run,
    model_after AS model_id,
    promoted
FROM rounds
WHERE (details -> '$.snapshot') IS NOT NULL
ORDER BY number;

-- One line per run, the newest last. `images` counts those that are done; seconds are those of the steps, summed over
-- all threads of a worker.
CREATE VIEW summary AS
SELECT
    coalesce(runs.run_id, done.run_id) AS run_id,
    runs.model_name AS model,
    runs.recipe_name AS recipe,
    coalesce(done.images, 0) AS images,
    coalesce(done.errors, 0) AS errors,
    coalesce(done.crashed, 0) AS crashed,
    coalesce(done.skipped, 0) AS skipped,
    coalesce(done.masks, 0)::BIGINT AS masks,
    round(done.masks / nullif(done.images, 0), 1) AS masks_per_image,
    round(kept.predicted_iou, 3) AS mean_predicted_iou,
    round(kept.stability_score, 3) AS mean_stability,
    round(done.seconds_per_image, 2) AS seconds_per_image,
    date_trunc('second', runs.created_at) AS created_at,
    runs.model_id -- which tells a fine-tuned model from the one that it began with
FROM runs
FULL JOIN (
    SELECT
        run_id,
        count(*) FILTER (status = 'ok') AS images,
        count(*) FILTER (status = 'error') AS errors,
        count(*) FILTER (status = 'crashed') AS crashed,
        count(*) FILTER (status = 'skipped') AS skipped,
        sum(n_masks) AS masks,
        avg(seconds) FILTER (status = 'ok') AS seconds_per_image
    FROM outcomes
    GROUP BY run_id
) AS done ON done.run_id = runs.run_id
LEFT JOIN (
    SELECT run_id, avg(predicted_iou) AS predicted_iou, avg(stability_score) AS stability_score
    FROM masks
    GROUP BY run_id
) AS kept ON kept.run_id = coalesce(runs.run_id, done.run_id)
ORDER BY runs.created_at, 1;

-- Empty when the data set is sound: every image done once per run, with as many masks as its outcome says.
CREATE VIEW problems AS
SELECT 'done more than once' AS problem, run_id, image_id
FROM outcomes GROUP BY run_id, image_id HAVING count(*) > 1
UNION ALL
SELECT
    'masks other than its outcome says',
    coalesce(outcomes.run_id, counted.run_id),
    coalesce(outcomes.image_id, counted.image_id)
FROM outcomes
FULL JOIN (SELECT run_id, image_id, count(*) AS masks FROM masks GROUP BY run_id, image_id) AS counted
    ON counted.run_id = outcomes.run_id AND counted.image_id = outcomes.image_id
WHERE coalesce(counted.masks, 0) IS DISTINCT FROM outcomes.n_masks
UNION ALL
SELECT 'not in images', run_id, image_id
FROM outcomes ANTI JOIN images USING (image_id);

-- Side of a square as large as the mask, relative to one as large as the image: the paper's relative mask size.
CREATE MACRO relative_size(area, height, width) AS sqrt(area / (height::DOUBLE * width));

-- COCO's size classes.
CREATE MACRO size_class(area) AS
    CASE WHEN area < 32 * 32 THEN 'small' WHEN area < 96 * 96 THEN 'medium' ELSE 'large' END;

-- Whether a point (px, original frame) lies in a mask's box.
CREATE MACRO box_holds(bbox_x, bbox_y, bbox_w, bbox_h, x, y) AS
    x >= bbox_x AND x < bbox_x + bbox_w AND y >= bbox_y AND y < bbox_y + bbox_h;

-- Everything that lies in a mask, directly or not: FROM parts_of('RUN.IMAGE.00003').
CREATE MACRO parts_of(mask) AS TABLE
    WITH RECURSIVE inside AS (
        FROM relations WHERE parent_mask_id = mask
        UNION ALL
        SELECT relations.* FROM relations JOIN inside ON relations.parent_mask_id = inside.mask_id
    )
    FROM inside ORDER BY depth, mask_id;

-- Masks of one image by its id, a literal, or of all whose id begins so: FROM masks_of('3fa9'). Only files that may hold
-- them are opened.
CREATE MACRO masks_of(image) AS TABLE
    FROM masks_in('dataset://masks/*.parquet#' || image)
    WHERE image_id >= image AND image_id < image || 'g'
    ORDER BY mask_id;
